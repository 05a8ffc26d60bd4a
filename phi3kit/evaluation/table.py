"""Results as Markdown: one table of numbers, one of differences to the first arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phi3kit.evaluation.results import CERTAIN, Measured, Results


def markdown(results: Results) -> str:
    """The whole text."""
    shown = [measure for measure in results.measured if measure.counts]
    seeds = sorted({seed for measure in results.measured for numbers in measure.values.values() for seed in numbers})
    first = results.baseline
    parts = [
        f"{len(results.arms)} arms, seeds {', '.join(map(str, seeds))}. Mean ± standard deviation over seeds.",
        _table(results, shown, _number),
        f"Difference to arm {first}, mean over seeds of the same number, and its 95 % interval (Student's t); "
        "**bold** where the interval leaves out zero.",
        _table(results, shown, lambda measure, arm: _difference(measure, arm, first)),
        *(f"- {measure.name}: {measure.notes}" for measure in results.measured if measure.notes),
        *map(_guessed, (measure for measure in results.measured if not measure.counts)),
    ]
    return "\n\n".join(filter(None, parts)).replace("\n\n- ", "\n- ") + "\n"


def _table(results: Results, measures: Sequence[Measured], cell: Callable[[Measured, str], str]) -> str:
    heads = ["arm", *(f"{measure.name}, {measure.unit}" for measure in measures)]
    rows = [
        [f"{arm} {about}".strip(), *(cell(measure, arm) for measure in measures)] for arm, about in results.arms.items()
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if measures else ""


def _number(measure: Measured, arm: str) -> str:
    found = measure.spread(arm)
    digits = _digits(measure)
    told = f"{found.mean:.{digits}f} ± {found.deviation:.{digits}f}"
    if measure.chance is None:
        return told
    return told if measure.above_chance(arm) else f"{told} (at chance)"


def _difference(measure: Measured, arm: str, baseline: str) -> str:
    if arm == baseline:
        return "–"
    found, digits = measure.difference(arm, baseline), _digits(measure)
    if found.low is None or found.high is None:
        return f"{found.mean:+.{digits}f} (one seed)"
    told = f"{found.mean:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    return f"**{told}**" if found.sure else told


def _digits(measure: Measured) -> int:
    """Enough for four significant figures of a number around 1, none of a count."""
    most = max(abs(number) for numbers in measure.values.values() for number in numbers.values())
    return max(0, 3 - len(str(int(most))) + 1)


def _guessed(measure: Measured) -> str:
    """A benchmark no arm is better at than guessing: said, not compared."""
    assert measure.chance is not None
    told = ", ".join(f"{arm} {measure.spread(arm).mean:.3f}" for arm in measure.values)
    return (
        f"- {measure.name}: no arm answers better than guessing ({measure.chance:.3f}) with every seed "
        f"(p < {CERTAIN:g}), so nothing is compared; {measure.unit}: {told}"
    )
