"""The public layout of Phi-3.5-MoE, Phi-mini-MoE and Phi-tiny-MoE: `PhiMoEForCausalLM`.

Special here: q, k and v are three tensors there and the rows of one here; each expert is three tensors there (w1 the
gate, w2 down, w3 up) and a slice of two stacks here. And config.json's class defaults are not the model's: biases
default to false and theta to a million, so a config that does not say them is refused, not guessed
(transformers, `models/phimoe/configuration_phimoe.py`, whose class is named PhimoeForCausalLM).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

from torch import nn

from phi3kit import UserError
from phi3kit.families import Layout, Part
from phi3kit.model import Decoder
from phi3kit.model import public_config as public
from phi3kit.model.weights import to_hugging_face
from phi3kit.records import Dims
from phi3kit_moe.rotation import position_config, position_section

PLAIN: dict[str, Any] = {
    "vision": None,
    "embedding_scale": 1.0,
    "embedding_dropout": 0.0,
    "logit_scale": 1.0,
    "unused_ids": [],
}
# transformers' PhimoeConfig; what the released files say about training is not known to us for every model
JITTER, INPUT_JITTER, AUX_LOSS, EPS = 0.01, 0.0, 0.001, 1e-5


@final
class PhiMoELayout(Layout):
    """`PhiMoEForCausalLM`: grouped-query attention with biases, experts behind SparseMixer, LayerNorm."""

    @property
    def architectures(self) -> frozenset[str]:
        return frozenset({"PhiMoEForCausalLM", "PhimoeForCausalLM"})

    def net(self, config: Mapping[str, Any]) -> dict[str, Any]:
        public.expect(config, "hidden_act", "silu", "the gate of the experts is SiLU")
        public.expect(config, "num_experts_per_tok", 2, "SparseMixer chooses two, whatever the config says")
        for dropout in ("hidden_dropout", "attention_dropout"):
            public.expect(config, dropout, 0.0, "the blocks have no dropout")
        attention = {"window": public.window_of(config), "bias": _flag(config, "attention_bias")}
        router = {"jitter": public.number(config, "router_jitter_noise", JITTER)}
        experts = {
            "router": {"class_path": "SparseMixer", "init_args": router},
            "n_experts": public.integer(config, "num_local_experts"),
            "balance": public.number(config, "router_aux_loss_coef", AUX_LOSS),
            "input_jitter": public.number(config, "input_jitter_noise", INPUT_JITTER),
        }
        return {
            "dims": public.dims_section(config),
            "attention": [{"class_path": "GroupedQueryAttention", "init_args": attention}],
            "feed_forward": [{"class_path": "MixtureOfExperts", "init_args": experts}],
            "position": position_section(config),
            "norm": {"class_path": "LayerNorm", "init_args": {"eps": public.number(config, "rms_norm_eps", EPS)}},
            "tied": bool(config.get("tie_word_embeddings", False)),
            "head_bias": _flag(config, "lm_head_bias"),
            "init_std": public.number(config, "initializer_range", 0.02),
        }

    def config(self, net: Mapping[str, Any]) -> dict[str, Any] | None:
        attention = public.the_only(net["attention"], "GroupedQueryAttention")
        experts = public.the_only(net["feed_forward"], "MixtureOfExperts")
        norm, norm_options = public.component(net.get("norm"))
        plain = all(net.get(name, value) in (value, None) for name, value in PLAIN.items())
        if attention is None or experts is None or norm != "LayerNorm" or not plain:
            return None
        router, router_options = public.component(experts["router"])
        dims = Dims(**net["dims"])
        rotation = position_config(net["position"], dims)
        if router != "SparseMixer" or router_options.get("chosen", 2) != 2 or rotation is None:
            return None
        window = attention.get("window")
        return {
            "architectures": ["PhiMoEForCausalLM"],
            "model_type": "phimoe",
            **public.dims_config(dims),
            "intermediate_size": experts.get("inner_width") or dims.inner_width,
            "num_local_experts": experts.get("n_experts", 16),
            "num_experts_per_tok": 2,
            **rotation,
            "sliding_window": dims.context if window is None else window - 1,  # a context that never binds, as released
            "attention_bias": attention.get("bias", False),
            "lm_head_bias": net.get("head_bias", False),
            "hidden_act": "silu",
            "rms_norm_eps": norm_options.get("eps", EPS),
            "router_jitter_noise": router_options.get("jitter", JITTER),
            "input_jitter_noise": experts.get("input_jitter", 0.0),
            "router_aux_loss_coef": experts.get("balance", 0.0),
            "output_router_logits": False,
            "tie_word_embeddings": net.get("tied", False),
            "attention_dropout": 0.0,
            "hidden_dropout": 0.0,
            "initializer_range": net.get("init_std", 0.02),
            "use_cache": True,
        }

    def parts(self, net: nn.Module) -> list[Part]:
        assert isinstance(net, Decoder)
        return [part for name, tensor in net.state_dict().items() for part in _parts(net, name, tensor.shape)]

    def unused(self, name: str) -> bool:
        return name.endswith(".self_attn.rotary_emb.inv_freq")  # buffers that some copies stored


def _parts(net: Decoder, name: str, shape: tuple[int, ...]) -> Iterator[Part]:
    """Where one of the net's tensors is in the checkpoint."""
    theirs = to_hugging_face(name)
    experts = theirs.replace(".mlp.", ".block_sparse_moe.").rpartition(".")[0] + ".experts"
    if name == "lm_head.weight" and net.tied:
        return
    if ".self_attn.qkv_proj." in name:
        queries, others = net.dims.n_heads * net.dims.head_width, net.dims.kv_heads * net.dims.head_width
        bounds = (0, queries, queries + others, queries + 2 * others)
        for letter, start, end in zip("qkv", bounds, bounds[1:], strict=False):
            yield Part(theirs.replace("qkv_proj", f"{letter}_proj"), name, (slice(start, end),))
    elif name.endswith(".mlp.gate_up_proj"):
        for e in range(shape[0]):
            yield Part(f"{experts}.{e}.w1.weight", name, (e, slice(0, shape[1] // 2)))
            yield Part(f"{experts}.{e}.w3.weight", name, (e, slice(shape[1] // 2, shape[1])))
    elif name.endswith(".mlp.down_proj"):
        for e in range(shape[0]):
            yield Part(f"{experts}.{e}.w2.weight", name, (e,))
    else:
        yield Part(theirs.replace(".mlp.router.gate.", ".block_sparse_moe.gate."), name)


def _flag(config: Mapping[str, Any], name: str) -> bool:
    """A field that must say true or false: the class's default is not what the released model has."""
    value = config.get(name)
    if not isinstance(value, bool):
        found = "lacks it" if value is None else f"says {value!r}"
        raise UserError(f"config.json: {name} must be true or false, but it {found}; Phi-3.5-MoE has true")
    return value
