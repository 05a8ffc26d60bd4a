"""How PhiMoE's config.json says rotation: LongRoPE whose magnitude is written down, once for each list.

The two numbers are read, never computed: 1.243163121016122 is what an original context of 2048 would give, while the
lists switch at 4096.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phi3kit import UserError
from phi3kit.model import public_config as public
from phi3kit.model.position import magnitude
from phi3kit.records import Dims

SCALES, LISTS = ("short_mscale", "long_mscale"), ("short_factor", "long_factor")


def position_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The ``position:`` of a net."""
    rope = public.rope_fields(config)
    said = any("rope_theta" in (config.get(name) or {}) for name in ("rope_scaling", "rope_parameters"))
    theta = public.number(rope if said else config, "rope_theta")  # a class default of 1e6 is not the model's 1e4
    if rope["partial_rotary_factor"] != 1.0:
        raise UserError(f"config.json: partial_rotary_factor is {rope['partial_rotary_factor']}; PhiMoE rotates all")
    if rope["kind"] == "default":
        return {"class_path": "RoPE", "init_args": {"theta": theta}}
    if rope["kind"] not in ("longrope", "su"):
        raise UserError(f"config.json: rope type {rope['kind']!r} is not known; PhiMoE has default or longrope")
    options = {name: public.numbers(rope, name) for name in LISTS}
    scales = {name: public.number(rope, name) for name in SCALES}
    original = public.integer(rope, "original_max_position_embeddings")
    return {"class_path": "LongRoPE", "init_args": {**options, "original_context": original, "theta": theta, **scales}}


def position_config(position: Mapping[str, Any], dims: Dims) -> dict[str, Any] | None:
    """The fields of config.json for a net's ``position:``; None where PhiMoE's cannot say it."""
    name, options = public.component(position)
    whole = options.get("rotary_fraction", 1.0) == 1.0 and options.get("use", "auto") == "auto"
    if name not in ("RoPE", "LongRoPE") or not whole:
        return None
    fields: dict[str, Any] = {"rope_theta": options.get("theta", 10000.0)}
    if name == "RoPE":
        return {**fields, "rope_scaling": None}
    original = options["original_context"]
    computed = magnitude(dims.context, original)
    scaling = {name: options[name] for name in LISTS}
    scaling |= {name: computed if options.get(name) is None else options[name] for name in SCALES}
    scaling |= {"original_max_position_embeddings": original, "type": "longrope"}
    return {**fields, "original_max_position_embeddings": original, "rope_scaling": scaling}
