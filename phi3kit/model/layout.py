"""The public layout of Phi-3-mini, medium, Phi-3.5-mini, Phi-4 and Phi-4-mini: `Phi3ForCausalLM`.

Special here: nothing is rearranged. The net's tensors are the checkpoint's, with the same fused rows, and only
config.json needs translation (transformers, `models/phi3/configuration_phi3.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import nn

from phi3kit.families import Layout, Part
from phi3kit.model import public_config as public
from phi3kit.model.weights import to_hugging_face
from phi3kit.records import Dims

PLAIN = {"vision": None, "head_bias": False, "embedding_scale": 1.0, "logit_scale": 1.0, "unused_ids": None}


@final
class Phi3Layout(Layout):
    """`Phi3ForCausalLM`: grouped-query attention, SwiGLU, RMSNorm, RoPE or LongRoPE, no biases."""

    @property
    def architectures(self) -> frozenset[str]:
        return frozenset({"Phi3ForCausalLM"})

    def net(self, config: Mapping[str, Any]) -> dict[str, Any]:
        public.expect(config, "hidden_act", "silu", "the gate of Phi-3's feed-forward is SiLU")
        for bias in ("attention_bias", "mlp_bias", "lm_head_bias"):
            public.expect(config, bias, False, "no Phi3ForCausalLM has biases")
        for dropout in ("resid_pdrop", "attention_dropout"):
            public.expect(config, dropout, 0.0, "the blocks have no dropout")
        window = public.window_of(config)
        return {
            "dims": public.dims_section(config),
            "attention": [{"class_path": "GroupedQueryAttention", "init_args": {"window": window}}],
            "feed_forward": [{"class_path": "GatedMLP"}],
            "position": public.position_section(config),
            "norm": {"class_path": "RMSNorm", "init_args": {"eps": public.number(config, "rms_norm_eps", 1e-5)}},
            "tied": bool(config.get("tie_word_embeddings", False)),
            "embedding_dropout": public.number(config, "embd_pdrop", 0.0),
            "init_std": public.number(config, "initializer_range", 0.02),
        }

    def config(self, net: Mapping[str, Any]) -> dict[str, Any] | None:
        attention = public.the_only(net["attention"], "GroupedQueryAttention")
        feed_forward = public.the_only(net["feed_forward"], "GatedMLP")
        norm, norm_options = public.component(net.get("norm"))
        rotation = public.position_config(net["position"])
        plain = all((net.get(name) or None) == (value or None) for name, value in PLAIN.items() if name in net)
        if attention is None or feed_forward is None or rotation is None or not plain:
            return None
        if norm not in ("", "RMSNorm") or attention.get("bias"):
            return None
        dims = Dims(**net["dims"])
        window = attention.get("window")
        return {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            **public.dims_config(dims),
            "original_max_position_embeddings": dims.context,
            **rotation,
            "sliding_window": None if window is None else window - 1,
            "hidden_act": "silu",
            "rms_norm_eps": norm_options.get("eps", 1e-5),
            "tie_word_embeddings": net.get("tied", False),
            "attention_bias": False,
            "attention_dropout": 0.0,
            "embd_pdrop": net.get("embedding_dropout", 0.0),
            "resid_pdrop": 0.0,
            "initializer_range": net.get("init_std", 0.02),
            "use_cache": True,
        }

    def parts(self, net: nn.Module) -> list[Part]:
        tied = {"lm_head.weight"} if net.tied else set()
        return [Part(to_hugging_face(name), name) for name in net.state_dict() if name not in tied]

    def unused(self, name: str) -> bool:
        return name.endswith(".self_attn.rotary_emb.inv_freq")  # early checkpoints stored it (vLLM, `phi3` loader)
