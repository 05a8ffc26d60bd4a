"""Fields of a public config.json, read strictly, and the parts of a recipe's net that several layouts share.

What a field means is cited from the class that reads it in transformers or in the model's remote code. A value that
the net cannot do is refused with its name; nothing is invented for a field that is missing without a documented
default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from phi3kit.errors import UserError
from phi3kit.model.position import magnitude
from phi3kit.records import Dims

Config = Mapping[str, Any]
LONGROPE = ("longrope", "su", "yarn")  # transformers' Phi3Config reads the older names as longrope
ROTATION = ("rope_theta", "rope_embedding_base", "partial_rotary_factor", "rope_scaling", "rope_parameters")
ORIGINAL = "original_max_position_embeddings"


def integer(config: Config, name: str, default: int | None = None) -> int:
    """A whole number above zero. Raises `UserError` where it is missing without a default, or something else."""
    value = config.get(name)
    if value is None and default is not None:
        return default
    _present(value, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"config.json: {name} is {value!r}; a whole number above 0 is expected")
    return value


def number(config: Config, name: str, default: float | None = None) -> float:
    """A number. Raises `UserError` where it is missing without a default, or something else."""
    value = config.get(name)
    if value is None and default is not None:
        return default
    _present(value, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"config.json: {name} is {value!r}; a number is expected")
    return float(value)


def numbers(config: Config, name: str) -> list[float]:
    """A list of numbers. Raises `UserError` where it is missing or something else."""
    value = config.get(name)
    _present(value, name)
    if not isinstance(value, list) or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in value):
        raise UserError(f"config.json: {name} is {str(value)[:60]!r}; a list of numbers is expected")
    return [float(x) for x in value]


def _present(value: object, name: str) -> None:
    if value is None:
        raise UserError(f"config.json lacks {name}; take it from the model's own repository")


def expect(config: Config, name: str, wanted: Any, why: str) -> None:
    """Refuse another value than `wanted`; a missing field is fine."""
    value = config.get(name, wanted)
    if value is not None and value != wanted:
        raise UserError(f"config.json: {name} is {value!r}; only {wanted!r} can be converted: {why}")


def dims_section(config: Config, intermediate: str = "intermediate_size") -> dict[str, Any]:
    """The ``dims:`` of a net; `intermediate` names the field of the feed-forward's inner width."""
    hidden, heads = integer(config, "hidden_size"), integer(config, "num_attention_heads")
    section = {
        "vocab_size": integer(config, "vocab_size"),
        "hidden_size": hidden,
        "n_layers": integer(config, "num_hidden_layers"),
        "n_heads": heads,
        "n_kv_heads": integer(config, "num_key_value_heads", heads),
        "intermediate_size": integer(config, intermediate),
        "context": integer(config, "max_position_embeddings"),
    }
    head_dim = integer(config, "head_dim", hidden // heads)
    if head_dim * heads != hidden:
        section["head_dim"] = head_dim
    Dims(**section)  # refuses sizes that do not fit together
    return section


def dims_config(dims: Dims) -> dict[str, Any]:
    """The fields of config.json that `dims_section` reads, under their usual names."""
    fields = {
        "vocab_size": dims.vocab_size,
        "hidden_size": dims.hidden_size,
        "intermediate_size": dims.inner_width,
        "num_hidden_layers": dims.n_layers,
        "num_attention_heads": dims.n_heads,
        "num_key_value_heads": dims.kv_heads,
        "max_position_embeddings": dims.context,
    }
    return fields if dims.head_width * dims.n_heads == dims.hidden_size else {**fields, "head_dim": dims.head_width}


def rope_fields(config: Config) -> dict[str, Any]:
    """What a config says about rotation, in ``rope_scaling`` (transformers 4) or ``rope_parameters`` (5).

    Where both are there, transformers 5 reads the first; what it lacks is looked for beside it, then in the other.
    """
    other = config.get("rope_parameters") or {}
    rope = {**(config.get("rope_scaling") or other)}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    for name, default in (("rope_theta", 10000.0), ("partial_rotary_factor", 1.0)):
        rope[name] = number(rope, name, number(config, name, number(other, name, default)))
    # a field outside has precedence (transformers' standardize_rope_params); 4096 is Phi3Config's default
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    return {**rope, "kind": kind, "original_max_position_embeddings": original or 4096}


def position_section(config: Config) -> dict[str, Any]:
    """The ``position:`` of a net: RoPE, or LongRoPE with the magnitude that ``attention_factor`` or ``factor`` set.

    Both override the magnitude that follows from the two contexts (transformers' `_compute_longrope_parameters`).
    """
    rope = rope_fields(config)
    options: dict[str, Any] = {"theta": rope["rope_theta"]}
    if rope["partial_rotary_factor"] != 1.0:
        options["rotary_fraction"] = rope["partial_rotary_factor"]
    if rope["kind"] == "default":
        return {"class_path": "RoPE", "init_args": options}
    if rope["kind"] not in LONGROPE:
        raise UserError(f"config.json: rope type {rope['kind']!r} is not known; default and longrope can be converted")
    original, context = integer(rope, "original_max_position_embeddings"), integer(config, "max_position_embeddings")
    lists = {name: numbers(rope, name) for name in ("short_factor", "long_factor")}
    scale = _overridden_scale(rope, context, original)
    if scale is not None:
        options |= {"short_mscale": scale, "long_mscale": scale}
    return {"class_path": "LongRoPE", "init_args": {**lists, "original_context": original, **options}}


def _overridden_scale(rope: Config, context: int, original: int) -> float | None:
    usual = magnitude(context, original)
    scale = usual
    if rope.get("attention_factor") is not None:
        scale = number(rope, "attention_factor")
    elif rope.get("factor") is not None:
        factor = number(rope, "factor")
        scale = usual if factor * original == context else magnitude_of(factor, original)
    return None if scale == usual else scale


def magnitude_of(factor: float, original: int) -> float:
    """LongRoPE's attention scale for a stretch by `factor` (arXiv 2402.13753; see `position.magnitude`)."""
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def position_config(position: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of config.json for a net's ``position:``; None where Phi3's cannot say it.

    A net that pins one list has it twice here, which turns the same.
    """
    name, options = component(position)
    if name not in ("RoPE", "LongRoPE"):
        return None
    fields: dict[str, Any] = {"rope_theta": options.get("theta", 10000.0)}
    if options.get("rotary_fraction", 1.0) != 1.0:
        fields["partial_rotary_factor"] = options["rotary_fraction"]
    if name == "RoPE":
        return {**fields, "rope_scaling": None}
    use = options.get("use", "auto")
    short, long = ("short", "long") if use == "auto" else (use, use)
    scales = {options.get(f"{short}_mscale"), options.get(f"{long}_mscale")}
    if len(scales) > 1:
        return None
    scaling = {"type": "longrope", "short_factor": options[f"{short}_factor"], "long_factor": options[f"{long}_factor"]}
    if scales != {None}:
        scaling["attention_factor"] = scales.pop()
    return {**fields, "original_max_position_embeddings": options["original_context"], "rope_scaling": scaling}


def rotated(carried: Config, now: Config) -> dict[str, Any]:
    """A carried config.json that turns as the net to write does, under every name that it had.

    transformers 5 has all of it in ``rope_parameters``; where both are there it reads ``rope_scaling`` first, with the
    fields beside it. So both say the same.

    Args:
        carried: as it was read.
        now: what the layout writes for the net to write.
    """
    said = {name: now[name] for name in (*ROTATION, ORIGINAL) if name in now}
    if "rope_parameters" in carried and "rope_theta" in now:
        scaling = dict(now.get("rope_scaling") or {"type": "default"})
        whole = {"rope_type": scaling.pop("type"), **scaling}
        whole |= {name: now[name] for name in ("rope_theta", "partial_rotary_factor") if name in now}
        said["rope_parameters"] = whole | ({ORIGINAL: now[ORIGINAL]} if now.get("rope_scaling") else {})
    config = {**carried, **said}
    return {name: value for name, value in config.items() if name in said or name not in (*ROTATION, ORIGINAL)}


def named_today(config: dict[str, Any]) -> dict[str, Any]:
    """A config whose LongRoPE has today's name: transformers 5 does not open April 2024's ``su``."""
    renamed = dict(config)
    for field in ("rope_scaling", "rope_parameters"):
        rope = config.get(field) or {}
        if "su" in (rope.get("type"), rope.get("rope_type")):
            renamed[field] = {name: "longrope" if value == "su" else value for name, value in rope.items()}
            renamed.setdefault(ORIGINAL, rope.get(ORIGINAL, 4096))
    return renamed


def window_of(config: Config) -> int | None:
    """Tokens that a token sees, itself included: ``sliding_window`` counts only those before it.

    Phi-3 was trained with FlashAttention's window of (2047, 0), which is 2048 tokens. None where it never binds.
    """
    if config.get("sliding_window") is None:
        return None
    window = integer(config, "sliding_window")
    return None if window >= integer(config, "max_position_embeddings") else window + 1


def component(value: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Short class name and options of a component in a net's section; of none: an empty name."""
    if value is None:
        return "", {}
    return value["class_path"].rpartition(".")[-1], value.get("init_args") or {}


def the_only(values: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """The options of a list of equal components called `name`; None where there are others."""
    found = [component(value) for value in values]
    alike = bool(found) and all(each == found[0] for each in found)
    return found[0][1] if alike and found[0][0] == name else None
