"""Results as one SVG: a panel per measure, every seed a dot, means with error bars. No library, no scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import floor, log10

from phi3kit.evaluation.results import Measured, Results

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 330, 230, 58, 34, 40, 12  # of a panel, and its margins
PER_ROW, FOOT = 2, 26
FONT = "font-family='Helvetica, Arial, sans-serif'"
DOT, BAR, SOFT = "#9db8dc", "#1d4e9e", "#666"


def svg(results: Results, against: Measured | None = None) -> str:
    """The picture.

    Args:
        results: measures that no arm is better at than guessing are left out.
        against: the measure along the x axis, e.g. file size; None: the arms stand side by side.
    """
    shown = [measure for measure in results.measured if measure.counts and measure is not against]
    across = min(PER_ROW, max(1, len(shown)))
    down = -(-len(shown) // across)
    width, height = across * WIDTH, down * HEIGHT + FOOT
    body = [part for n, m in enumerate(shown) for part in _panel(results, m, against, n % across, n // across)]
    dashed = "; dashed: guessing" if any(measure.chance is not None for measure in shown) else ""
    caption = f"dots: seeds; bars: mean ± standard deviation{dashed}"
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' "
            f"height='{height}' {FONT}>",
            "<rect width='100%' height='100%' fill='white'/>",
            *body,
            _text(LEFT, height - 9, caption, size=11, colour=SOFT),
            "</svg>\n",
        ]
    )


def _panel(results: Results, measure: Measured, against: Measured | None, column: int, row: int) -> Iterator[str]:
    yield f"<g transform='translate({column * WIDTH},{row * HEIGHT})'>"
    yield _text(LEFT, 20, f"{measure.name}, {measure.unit}", size=13, weight="bold")
    ticks = rounded(*_reach(measure))
    low, high = ticks[0], ticks[-1]
    ground = HEIGHT - BOTTOM
    places = _places(results, measure, against)

    def y(number: float) -> float:
        return ground - (number - low) / (high - low) * (ground - TOP)

    digits = max(0, -floor(log10(ticks[1] - ticks[0]) + 1e-9))
    for tick in ticks:
        yield f"<path stroke='#e4e7eb' d='M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}'/>"
        yield _text(LEFT - 6, y(tick) + 4, f"{tick:.{digits}f}", size=11, colour=SOFT, anchor="end")
    yield f"<path stroke='#888' fill='none' d='M{LEFT} {TOP}V{ground}H{WIDTH - RIGHT}'/>"
    if measure.chance is not None:
        yield f"<path stroke='#888' stroke-dasharray='4 3' d='M{LEFT} {y(measure.chance):.1f}H{WIDTH - RIGHT}'/>"
    for arm, x in places.items():
        yield from _arm(measure, arm, x, y)
        label = arm if against is None else ""
        yield _text(x, ground + 16, label, size=12, anchor="middle")
    yield from _x_axis(against, ground)
    yield "</g>"


def _reach(measure: Measured) -> tuple[float, float]:
    """The lowest and the highest thing drawn."""
    numbers = [number for arm in measure.values.values() for number in arm.values()]
    spreads = [measure.spread(arm) for arm in measure.values]
    numbers += [s.mean - s.deviation for s in spreads] + [s.mean + s.deviation for s in spreads]
    numbers += [] if measure.chance is None else [measure.chance]
    return min(numbers), max(numbers)


def _arm(measure: Measured, arm: str, x: float, y: object) -> Iterator[str]:
    assert callable(y)
    for number in measure.values[arm].values():
        yield f"<circle cx='{x - 8:.1f}' cy='{y(number):.1f}' r='2.6' fill='{DOT}'/>"
    found = measure.spread(arm)
    top, bottom = y(found.mean + found.deviation), y(found.mean - found.deviation)
    bars = f"M{x:.1f} {top:.1f}V{bottom:.1f}M{x - 4:.1f} {top:.1f}h8M{x - 4:.1f} {bottom:.1f}h8"
    yield f"<path stroke='{BAR}' stroke-width='1.4' fill='none' d='{bars}'/>"
    told = f"{arm}: {found.mean:.4g} ± {found.deviation:.2g}, {found.seeds} seeds"
    yield f"<circle cx='{x:.1f}' cy='{y(found.mean):.1f}' r='4' fill='{BAR}'><title>{escape(told)}</title></circle>"


def _places(results: Results, measure: Measured, against: Measured | None) -> Mapping[str, float]:
    """Where each arm stands along the x axis."""
    wide = WIDTH - LEFT - RIGHT
    if against is None:
        return {arm: LEFT + wide * (i + 0.5) / len(measure.values) for i, arm in enumerate(measure.values)}
    means = {arm: against.spread(arm).mean for arm in measure.values}
    ticks = rounded(min(means.values()), max(means.values()))
    return {arm: LEFT + wide * (mean - ticks[0]) / (ticks[-1] - ticks[0]) for arm, mean in means.items()}


def _x_axis(against: Measured | None, ground: float) -> Iterator[str]:
    if against is None:
        return
    means = [against.spread(arm).mean for arm in against.values]
    ticks = rounded(min(means), max(means))
    for tick, x, anchor in ((ticks[0], LEFT, "start"), (ticks[-1], WIDTH - RIGHT, "end")):
        yield _text(x, ground + 15, f"{tick:g}", size=11, colour=SOFT, anchor=anchor)
    yield _text((LEFT + WIDTH) / 2, ground + 30, f"{against.name}, {against.unit}", size=12, anchor="middle")


def rounded(low: float, high: float) -> Sequence[float]:
    """Three to eight round numbers from below `low` to above `high`."""
    span = (high - low) or abs(high) * 0.02 or 1.0
    power = 10 ** floor(log10(span))
    step = next(s * power for s in (0.1, 0.2, 0.5, 1, 2, 5) if span / (s * power) <= 5)
    first, last = floor(low / step), -floor(-high / step)
    first, last = (first - 1, last + 1) if last - first < 2 else (first, last)
    return [n * step for n in range(first, last + 1)]


def _text(
    x: float, y: float, text: str, *, size: int, weight: str = "normal", colour: str = "#111", anchor: str = "start"
) -> str:
    style = f"font-size='{size}' font-weight='{weight}' fill='{colour}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"
