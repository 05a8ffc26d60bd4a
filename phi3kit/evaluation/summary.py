"""Numbers over seeds: mean, spread, and the difference between two arms with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

Values = Mapping[str, Mapping[int, float]]  # arm -> seed -> number


@dataclass(frozen=True)
class Spread:
    """Numbers of one arm.

    Args:
        mean: over its seeds.
        deviation: their standard deviation; 0 of one seed.
        seeds: how many.
    """

    mean: float
    deviation: float
    seeds: int


@dataclass(frozen=True)
class Difference:
    """One arm less another, seed by seed.

    Args:
        mean: over the seeds both have.
        low: lower end of the 95 % interval of the mean (Student's t over seeds); None of one seed.
        high: its upper end.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def spread(numbers: Sequence[float]) -> Spread:
    """Mean and standard deviation."""
    return Spread(fmean(numbers), stdev(numbers) if len(numbers) > 1 else 0.0, len(numbers))


def difference(numbers: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Paired by seed: a seed gives all arms the same initial weights, which would otherwise blur what differs."""
    from scipy.special import stdtrit

    each = [numbers[seed] - baseline[seed] for seed in numbers if seed in baseline]
    if len(each) < 2:
        return Difference(fmean(each), None, None)
    half = float(stdtrit(len(each) - 1, 0.975)) * stdev(each) / len(each) ** 0.5
    return Difference(fmean(each), fmean(each) - half, fmean(each) + half)
