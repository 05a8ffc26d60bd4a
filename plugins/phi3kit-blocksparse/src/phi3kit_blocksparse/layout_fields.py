"""Phi-3-small's fields of config.json against the parts of a recipe's net, both ways.

Names and defaults are those of the repository's configuration_phi3_small.py, what they mean of its
modeling_phi3_small.py and positional_embedding.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from phi3kit.errors import UserError
from phi3kit.model import public_config as public
from phi3kit.model.position import magnitude
from phi3kit.records import Dims

Config = Mapping[str, Any]
SPARSE, DENSE = "BlocksparseAttention", "GroupedDenseAttention"
BLOCKS = {  # our option -> their field and its default
    "block_size": ("blocksparse_block_size", 64),
    "local_blocks": ("blocksparse_num_local_blocks", 16),
    "vertical_stride": ("blocksparse_vert_stride", 8),
}
# ids of cl100k's rows that the public tokenizer calls dummies (tokenization_phi3_small.py); 100276 is <|endofprompt|>
DUMMIES = [100256, *range(100258, 100261), 100264, 100265, *range(100267, 100352)]


def unused_ids(vocab_size: int) -> list[int]:
    """Ids that the public code can never say, of those that the net has."""
    return [i for i in DUMMIES if i < vocab_size]


def reciprocal(value: float) -> float:
    """1 / value, without the last digit's noise: that of 1/8 and of 1/7 are 8 and 7."""
    return float(f"{1 / value:.12g}")


def dims_section(config: Config) -> dict[str, Any]:
    """The ``dims:`` of a net; the inner width is given, or follows from ``ff_dim_multiplier``."""
    multiplier = config.get("ff_dim_multiplier")
    if multiplier is not None:
        if config.get("ff_intermediate_size") is not None:
            raise UserError("config.json has both ff_dim_multiplier and ff_intermediate_size; exactly one may be set")
        inner = int(public.number(config, "ff_dim_multiplier") * (public.integer(config, "hidden_size") // 3) * 2)
        if config.get("gegelu_pad_to_256", True):
            inner = math.ceil(inner / 256) * 256
        config = {**config, "ff_intermediate_size": inner}
    return public.dims_section(config, "ff_intermediate_size")


def attention_section(config: Config, head_width: int) -> list[dict[str, Any]]:
    """The ``attention:`` of a net: every so many layers a dense one, the others blocksparse."""
    scale: dict[str, Any] = {}
    if not config.get("mup_use_scaling", True):
        scale = {"scale": head_width**-0.5}
    elif (multiplier := public.number(config, "mup_attn_multiplier", 1.0)) != 1.0:
        scale = {"scale": multiplier / head_width}
    blocks = {ours: public.integer(config, theirs, default) for ours, (theirs, default) in BLOCKS.items()}
    homogeneous = {"homogeneous_heads": bool(config.get("blocksparse_homo_head_pattern", False))}
    sparse = {"class_path": SPARSE, "init_args": {**blocks, **homogeneous, **scale}}
    if config.get("dense_attention_every_n_layers", 2) is None:
        return [sparse]
    period = public.integer(config, "dense_attention_every_n_layers", 2)
    return [*[sparse] * (period - 1), {"class_path": DENSE, "init_args": scale}]


def attention_config(attention: Sequence[Mapping[str, Any]], head_width: int) -> dict[str, Any] | None:
    """The fields that `attention_section` reads; None where they cannot say it."""
    *before, last = (public.component(each) for each in attention)
    ends_dense = last[0] == DENSE
    sparse = before if ends_dense else [*before, last]
    alike = all(each == sparse[0] for each in sparse)
    if not alike or any(name != SPARSE for name, _ in sparse) or not (ends_dense or len(sparse) == 1):
        return None
    options = sparse[0][1] if sparse else {}
    scale = options.get("scale") if sparse else last[1].get("scale")
    if ends_dense and last[1].get("scale") != scale:
        return None
    return {
        **{theirs: options.get(ours, default) for ours, (theirs, default) in BLOCKS.items()},
        "blocksparse_homo_head_pattern": options.get("homogeneous_heads", False),
        "dense_attention_every_n_layers": len(attention) if ends_dense else None,
        "mup_attn_multiplier": 1.0 if scale is None else scale * head_width,
        "attention_bias": False,  # as published, though there are biases
    }


def position_section(config: Config) -> dict[str, Any]:
    """The ``position:`` of a net. An mscale of the short list that is missing or not above 0 means 1, one of the long
    list the usual magnitude (positional_embedding.py; ONNX Runtime GenAI takes the magnitude for both)."""
    theta = {"theta": public.number(config, "rope_embedding_base", 1000000.0)}
    rope = config.get("rope_scaling")
    if rope is None:
        return {"class_path": "RoPE", "init_args": theta}
    kind = rope.get("type") or rope.get("rope_type")
    if kind not in ("su", "longrope"):
        raise UserError(f"config.json: rope type {kind!r} is not known; su and longrope can be converted")
    name = "original_max_position_embeddings"
    original = public.integer({name: rope.get(name) or config.get(name)}, name)
    lists = {name: public.numbers(rope, name) for name in ("short_factor", "long_factor")}
    short, long = (public.number(rope, name, -1.0) for name in ("short_mscale", "long_mscale"))
    scales = {"short_mscale": short if short > 0 else 1.0, **({"long_mscale": long} if long > 0 else {})}
    return {"class_path": "LongRoPE", "init_args": {**lists, "original_context": original, **theta, **scales}}


def position_config(position: Mapping[str, Any], dims: Dims) -> dict[str, Any] | None:
    """The fields that `position_section` reads. A net that pins one list has it twice here, which turns the same."""
    name, options = public.component(position)
    if name not in ("RoPE", "LongRoPE") or options.get("rotary_fraction", 1.0) != 1.0:
        return None
    fields: dict[str, Any] = {"rope_embedding_base": options.get("theta", 10000.0), "rope_scaling": None}
    if name == "RoPE":
        return fields
    use, original = options.get("use", "auto"), options["original_context"]
    short, long = ("short", "long") if use == "auto" else (use, use)
    scaling = {"type": "longrope", "short_factor": options[f"{short}_factor"], "long_factor": options[f"{long}_factor"]}
    usual = magnitude(dims.context, original)
    for theirs, ours in (("short_mscale", short), ("long_mscale", long)):
        scale = options.get(f"{ours}_mscale")
        if scale is not None or theirs == "short_mscale":
            scaling[theirs] = usual if scale is None else scale
    scaling["original_max_position_embeddings"] = original
    return {**fields, "original_max_position_embeddings": original, "rope_scaling": scaling}
