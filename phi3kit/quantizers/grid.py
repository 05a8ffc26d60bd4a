"""The grids that weights are rounded to: how many bits, and how many weights share a scale.

Special here: only grids that XNNPACK computes rightly exist. ExecuTorch 1.4 lowers others without an error and
gives wrong numbers (weight-only linear layers, asymmetric weights, bfloat16 embedding scales), or fails deep inside
(groups of 16, 8 bits in groups, 2 or 3 bits in linear layers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phi3kit.errors import UserError

GROUP_UNIT = 32  # XNNPACK: "block size must be a multiple of 32"
LINEAR_BITS, EMBEDDING_BITS = (4, 8), (2, 4, 8)
BFLOAT16, FLOAT16, FLOAT32 = 2, 2, 4  # bytes of a scale


@dataclass(frozen=True)
class LinearGrid:
    """Symmetric integers of a linear layer, whose input is rounded to 8 bits per token as it comes.

    Args:
        bits: 4, whose scales XNNPACK stores as bfloat16; or 8 with one scale per row, fp32.
        group_size: weights of a row that share a scale; None: all of them.

    Raises:
        UserError: XNNPACK has no such linear layer; what to use instead.
    """

    bits: int
    group_size: int | None

    def __post_init__(self) -> None:
        if self.bits not in LINEAR_BITS:
            raise UserError(
                f"{self.bits}-bit weights of a linear layer do not work on XNNPACK; use 4, or 8 (one scale per row)"
            )
        if self.group_size is None:
            return
        if self.bits == 8:
            raise UserError(
                f"8-bit weights in groups of {self.group_size} do not work on XNNPACK; "
                "use one scale per row (group_size null), or 4 bits in groups"
            )
        if self.group_size < GROUP_UNIT or self.group_size % GROUP_UNIT:
            raise UserError(f"group_size {self.group_size} does not work; XNNPACK wants a multiple of {GROUP_UNIT}")

    def bytes(self, rows: int, width: int) -> int:
        """Size in a program: packed weights and their scales."""
        scales = width // (self.group_size or width) * (BFLOAT16 if self.bits == 4 else FLOAT32)
        return rows * (width * self.bits // 8 + scales)

    def describe(self, method: str) -> dict[str, Any]:
        """As `bundle.json` states it."""
        return {
            "weight_bits": self.bits,
            "group_size": self.group_size or "row",
            "scale": "bfloat16" if self.bits == 4 else "float32",
            "method": method,
        }


@dataclass(frozen=True)
class WeightGrid(LinearGrid):
    """Symmetric integers of a linear layer whose input is left as it is: for backends that compute in fp16.

    Args:
        bits: 4 or 8.
        group_size: weights of a row that share a scale; None: all of them.
    """

    def __post_init__(self) -> None:
        if self.bits not in LINEAR_BITS:
            raise UserError(f"{self.bits}-bit weights of a linear layer do not work; use 4 or 8")
        if self.group_size is not None and (self.group_size < GROUP_UNIT or self.group_size % GROUP_UNIT):
            raise UserError(f"group_size {self.group_size} does not work; use a multiple of {GROUP_UNIT}")

    def bytes(self, rows: int, width: int) -> int:
        """Size in a program: packed weights and their scales, in fp16."""
        return rows * (width * self.bits // 8 + FLOAT16 * (width // (self.group_size or width)))

    def describe(self, method: str) -> dict[str, Any]:
        """As `bundle.json` states it."""
        return super().describe(method) | {"scale": "float16"}


@dataclass(frozen=True)
class EmbeddingGrid:
    """Symmetric integers of an embedding, which is only looked up: its scales are fp32.

    Args:
        bits: 8, 4 or 2.
        group_size: numbers of an embedding that share a scale; None: all of it.
    """

    bits: int
    group_size: int | None

    def __post_init__(self) -> None:
        if self.bits not in EMBEDDING_BITS:
            valid = ", ".join(map(str, EMBEDDING_BITS))
            raise UserError(f"embedding_bits {self.bits} does not work; use one of {valid}")
        if self.group_size is not None and (self.group_size < 4 or self.group_size % 4):
            raise UserError(f"embedding_group {self.group_size} does not work; use a multiple of 4")

    def bytes(self, rows: int, width: int) -> int:
        """Size in a program: packed numbers and their scales."""
        return rows * width * self.bits // 8 + rows * FLOAT32 * (width // (self.group_size or width))

    def describe(self) -> dict[str, Any]:
        """As `bundle.json` states it."""
        return {
            "weight_bits": self.bits,
            "group_size": self.group_size or "row",
            "scale": "float32",
            "method": "plain",
        }


def check_divides(option: str, group_size: int | None, widths: Mapping[str, int], unit: int) -> None:
    """Raise `UserError` naming the first layer whose width is no multiple, and the groups that fit all."""
    common = math.gcd(*widths.values())
    for name, width in widths.items():
        if group_size is not None and width % group_size:
            fitting = [str(g) for g in range(unit, min(common, 256) + 1, unit) if common % g == 0]
            instead = (
                f"{option} {' or '.join(fitting)} fits every layer"
                if fitting
                else f"no {option} fits every layer; make the net's widths multiples of {unit}, or say null"
            )
            raise UserError(f"{name} is {width} wide, not a multiple of {option} {group_size}; {instead}")
