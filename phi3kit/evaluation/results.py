"""What a study found, as data: the table and the plot are drawn from this, and it is what report.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from phi3kit.evaluation.summary import Difference, Spread, difference, spread

CERTAIN = 0.05  # probability of guessing as well, below which answers count as better than chance


@dataclass(frozen=True)
class Measured:
    """One measure of every cell.

    Args:
        name: of the measure.
        unit: e.g. "bits per byte".
        values: arm -> seed -> number.
        notes: how it was measured, for the table's foot.
        chance: what guessing reaches, where that makes sense.
        p: arm -> seed -> probability that guessing does as well.
    """

    name: str
    unit: str
    values: Mapping[str, Mapping[int, float]]
    notes: str = ""
    chance: float | None = None
    p: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def spread(self, arm: str) -> Spread:
        """Of one arm."""
        return spread(list(self.values[arm].values()))

    def difference(self, arm: str, baseline: str) -> Difference:
        """Of one arm to another."""
        return difference(self.values[arm], self.values[baseline])

    def above_chance(self, arm: str) -> bool:
        """Whether every seed answers better than guessing; measures without a chance level always count."""
        return self.chance is None or all(p < CERTAIN for p in self.p[arm].values())

    @property
    def counts(self) -> bool:
        """Whether any arm's number says something."""
        return any(map(self.above_chance, self.values))


@dataclass(frozen=True)
class Results:
    """A study's arms, in order, with what was measured.

    Args:
        arms: name -> what it is; the first is what the others are compared with.
        measured: every measure.
    """

    arms: Mapping[str, str]
    measured: Sequence[Measured]

    @property
    def baseline(self) -> str:
        """The first arm."""
        return next(iter(self.arms))

    def as_json(self) -> dict[str, Any]:
        """For report.json: every cell's number, and the sums."""
        return {
            "arms": dict(self.arms),
            "baseline": self.baseline,
            "measures": [
                asdict(measure)
                | {"spread": {arm: asdict(measure.spread(arm)) for arm in measure.values}}
                | {"difference": {a: asdict(measure.difference(a, self.baseline)) for a in measure.values}}
                | {"above_chance": {arm: measure.above_chance(arm) for arm in measure.values}}
                for measure in self.measured
            ],
        }
