"""What rounding each layer costs, and which bits to give to which layer under a size budget.

The harm of a grid is the relative squared change of what the layer's part of the net (its block, the head, the
embedding) puts out on real text when this layer alone is rounded: layers speak of the same residual stream, so harms
can be compared and added up, and a net of any size can be measured part by part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Option:
    """One grid for one layer: its bytes in a program, and the harm it does."""

    grid: LinearGrid | EmbeddingGrid
    bytes: int
    harm: float


Table = Mapping[str, Sequence[Option]]  # layer -> its options


def relative_change(wanted: Iterable[Tensor], got: Iterable[Tensor]) -> float:
    """|got - wanted|^2 / |wanted|^2 over all rows."""
    change, power = 0.0, 0.0
    for wanted_BTD, got_BTD in zip(wanted, got, strict=True):
        change += float((got_BTD - wanted_BTD).double().square().sum())
        power += float(wanted_BTD.double().square().sum())
    return change / max(power, 1e-30)


def choose(table: Table, room: int) -> dict[str, Option]:
    """An option for each layer, so that together they fit: from the smallest on, the step that spares most harm per
    byte is taken as long as one fits.

    Args:
        table: every layer's options.
        room: bytes for all of them, no less than `least`.
    """
    ladders = {name: _worthwhile(options) for name, options in table.items()}
    step = dict.fromkeys(ladders, 0)
    room -= sum(ladder[0].bytes for ladder in ladders.values())
    while True:
        fitting = [
            (_gain(ladder[step[name]], ladder[step[name] + 1]), name)
            for name, ladder in ladders.items()
            if step[name] + 1 < len(ladder) and ladder[step[name] + 1].bytes - ladder[step[name]].bytes <= room
        ]
        if not fitting:
            return {name: ladder[step[name]] for name, ladder in ladders.items()}
        _, name = max(fitting)
        room -= ladders[name][step[name] + 1].bytes - ladders[name][step[name]].bytes
        step[name] += 1


def least(table: Table) -> int:
    """Bytes of all layers at their smallest."""
    return sum(min(option.bytes for option in options) for options in table.values())


def _worthwhile(options: Sequence[Option]) -> list[Option]:
    """From the smallest on, options that spare harm, each step less of it per byte than the one before (the lower
    convex hull)."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (o.bytes, o.harm)):
        if hull and option.harm >= hull[-1].harm:
            continue
        while len(hull) > 1 and _gain(hull[-1], option) >= _gain(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _gain(small: Option, large: Option) -> float:
    """Harm spared per byte."""
    return (small.harm - large.harm) / (large.bytes - small.bytes)


def bytes_of(size: str) -> int:
    """``"2.3GB"`` -> 2300000000. Raises `UserError` for what is no size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(KB|MB|GB)\s*", size, re.IGNORECASE)
    if not found:
        raise UserError(f"size {size!r} cannot be read; say it in KB, MB or GB, e.g. 2.3GB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def shown(count: int) -> str:
    """Bytes as people say them, never less than they are."""
    unit = next((unit for unit in ("GB", "MB") if count >= UNITS[unit]), "KB")
    return f"{-(-count * 100 // UNITS[unit]) / 100:.2f} {unit}"


def as_json(table: Table) -> dict[str, Any]:
    """The table as reports hold it."""
    return {
        name: [
            {"bits": o.grid.bits, "group_size": o.grid.group_size or "row", "bytes": o.bytes, "harm": o.harm}
            for o in options
        ]
        for name, options in table.items()
    }
