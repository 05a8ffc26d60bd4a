"""The public layout of Phi-3-small: `Phi3SmallForCausalLM` (the repository's own configuration_phi3_small.py).

Special here: no number moves, the net has the checkpoint's own row order; only `model.final_layernorm` is called
`norm`. What config.json leaves out or gets wrong is set right: every linear layer has a bias whatever
``attention_bias`` says, the head is tied though no key says so, and the ids that no text ever uses are not listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from torch import nn

from phi3kit.families import Layout, Part
from phi3kit.model import public_config as public
from phi3kit.model.weights import to_hugging_face
from phi3kit.records import Dims
from phi3kit_blocksparse import layout_fields as fields


@final
class Phi3SmallLayout(Layout):
    """`Phi3SmallForCausalLM`: blocksparse and dense attention by turns, GEGELU, LayerNorm, muP, tied embeddings."""

    @property
    def architectures(self) -> frozenset[str]:
        return frozenset({"Phi3SmallForCausalLM"})

    def net(self, config: Mapping[str, Any]) -> dict[str, Any]:
        public.expect(config, "hidden_act", "gegelu", "Phi-3-small's feed-forward is a GEGELU")
        public.expect(config, "attention_dropout_prob", 0.0, "the attention has no dropout")
        public.expect(config, "rope_position_scale", 1.0, "positions are not divided")
        dims = fields.dims_section(config)
        mup = bool(config.get("mup_use_scaling", True))
        mlp = {"limit": config.get("gegelu_limit", 20.0), "dropout": public.number(config, "ffn_dropout_prob", 0.1)}
        eps = public.number(config, "layer_norm_epsilon", 1e-5)
        return {
            "dims": dims,
            "attention": fields.attention_section(config, dims["hidden_size"] // dims["n_heads"]),
            "feed_forward": [{"class_path": "GEGELUMLP", "init_args": mlp}],
            "position": fields.position_section(config),
            "norm": {"class_path": "LayerNorm", "init_args": {"eps": eps}},
            "tied": bool(config.get("tie_word_embeddings", True)),
            "embedding_scale": public.number(config, "mup_embedding_multiplier", 10.0) if mup else 1.0,
            "embedding_dropout": public.number(config, "embedding_dropout_prob", 0.1),
            "logit_scale": 1 / public.number(config, "mup_width_multiplier", 8.0) if mup else 1.0,
            "unused_ids": fields.unused_ids(dims["vocab_size"]),
            "init_std": public.number(config, "initializer_range", 0.02),
            # names that hold "down_proj"; the attention's output is called `dense` and is not scaled
            "init_scale": {"mlp.down_proj.weight": 1 / math.sqrt(2 * dims["n_layers"])},
        }

    def config(self, net: Mapping[str, Any]) -> dict[str, Any] | None:
        dims = Dims(**net["dims"])
        attention = fields.attention_config(net["attention"], dims.head_width)
        mlp = public.the_only(net["feed_forward"], "GEGELUMLP")
        rotation = fields.position_config(net["position"], dims)
        norm, norm_options = public.component(net.get("norm"))
        unused = (net.get("unused_ids") or []) == fields.unused_ids(dims.vocab_size)
        square = dims.head_width * dims.n_heads == dims.hidden_size
        if attention is None or mlp is None or rotation is None or norm != "LayerNorm":
            return None
        if net.get("vision") or net.get("head_bias") or not (unused and square):
            return None
        sizes = public.dims_config(dims)
        sizes["ff_intermediate_size"] = sizes.pop("intermediate_size")
        return {
            "architectures": ["Phi3SmallForCausalLM"],
            "model_type": "phi3small",
            **sizes,
            "ff_dim_multiplier": None,
            **attention,
            **rotation,
            "rope_position_scale": 1.0,
            "hidden_act": "gegelu",
            "gegelu_limit": mlp.get("limit", 20.0),
            "layer_norm_epsilon": norm_options.get("eps", 1e-5),
            "mup_use_scaling": True,
            "mup_embedding_multiplier": net.get("embedding_scale", 1.0),
            "mup_width_multiplier": fields.reciprocal(net.get("logit_scale", 1.0)),
            "embedding_dropout_prob": net.get("embedding_dropout", 0.0),
            "ffn_dropout_prob": mlp.get("dropout", 0.0),
            "attention_dropout_prob": 0.0,
            "tie_word_embeddings": net.get("tied", False),
            "initializer_range": net.get("init_std", 0.02),
            "use_cache": True,
        }

    def parts(self, net: nn.Module) -> list[Part]:
        tied = {"lm_head.weight"} if net.tied else set()
        return [Part(_theirs(name), name) for name in net.state_dict() if name not in tied]

    def unused(self, name: str) -> bool:
        return name.endswith(".self_attn.rotary_emb.inv_freq")


def _theirs(name: str) -> str:
    return f"model.final_layernorm.{name.removeprefix('norm.')}" if name.startswith("norm.") else to_hugging_face(name)
