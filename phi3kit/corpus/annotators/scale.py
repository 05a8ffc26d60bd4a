"""The scale all labels share: 0, nothing of the aspect, to 5, as much as can be."""

from __future__ import annotations

from typing import Any

from phi3kit.errors import UserError

MOST = 5.0


def checked(value: float, given: Any, place: str, largest: float = MOST) -> float:
    """The value, if it is on the scale.

    Args:
        value: on the scale of 0 to 5.
        given: the label as it was written.
        place: where, for the error.
        largest: what the writer called most.
    """
    if not 0 <= value <= MOST:
        raise UserError(
            f"{place}: the label {given} is not within 0 and {largest:g}; set `largest` to the largest label"
        )
    return value
