"""How large a number of a recipe may be, said once where it is declared: ``batch_size: AtLeastOne``.

`recipe_bounds` compares a recipe with what its constructors declare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args


@dataclass(frozen=True)
class Bound:
    """What a number, or the length of a list, may be. Unbounded where None.

    Args:
        least: the smallest.
        most: the largest.
        above: every one is larger than this.
        below: every one is smaller than this.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {value:,}" for word, value in words.items() if value is not None)

    __repr__ = __str__


@dataclass(frozen=True)
class Length:
    """How many entries a list has at least."""

    least: int

    def __repr__(self) -> str:
        return f"at least {self.least} entries"


AtLeastOne = Annotated[int, Bound(least=1)]
AtLeastTwo = Annotated[int, Bound(least=2)]
NotNegative = Annotated[int, Bound(least=0)]
Seed = Annotated[int, Bound(least=0, most=2**32 - 1)]  # as lightning and numpy take them
Share = Annotated[float, Bound(least=0, most=1)]
DropoutShare = Annotated[float, Bound(least=0, below=1)]
PositiveShare = Annotated[float, Bound(above=0, most=1)]
Positive = Annotated[float, Bound(above=0)]
NotEmpty = Length(least=1)


def of_parameter(annotation: Any) -> Iterator[Bound | Length]:
    """The bounds that an annotation declares, through ``| None`` and lists."""
    yield from (part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Bound | Length))
    for part in get_args(annotation):
        if not isinstance(part, list):
            yield from of_parameter(part)
