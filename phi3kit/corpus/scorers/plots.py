"""Plots as inline SVG: bars and curves, without a library, in the colours of the page they stand in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 34  # margins


def histogram(edges: Sequence[float], counts: Sequence[int], threshold: float | None, label: str) -> str:
    """Bars over `edges`; those at or above the threshold stand out, and a line marks it."""
    low, high, most = edges[0], edges[-1], max(*counts, 1)
    x = _scale(low, high, LEFT, WIDTH - RIGHT)
    y = _scale(0, most, HEIGHT - BOTTOM, TOP)
    bars = [
        f'<rect class="{"bar kept" if threshold is not None and right > threshold else "bar"}" x="{x(left) + 0.5:.1f}" '
        f'y="{y(n):.1f}" width="{max(x(right) - x(left) - 1, 0.5):.1f}" height="{max(y(0) - y(n), 0):.1f}">'
        f"<title>{left:.3g} to {right:.3g}: {n}</title></rect>"
        for left, right, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    mark = []
    if threshold is not None and low <= threshold <= high:
        mark = [f'<line class="mark" x1="{x(threshold):.1f}" x2="{x(threshold):.1f}" y1="{TOP}" y2="{y(0):.1f}"/>']
    ticks = [(x(v), f"{v:.3g}") for v in (low, (low + high) / 2, high)]
    return _svg([*bars, *mark], ticks, [(y(0), "0"), (y(most), str(most))], label, "documents")


def curve(
    points: Sequence[tuple[float, float]], x_label: str, y_label: str, dots: bool = False, high: float = 1.0
) -> str:
    """A line through points of the unit square (x up to `high`), above its diagonal."""
    x, y = _scale(0, high, LEFT, WIDTH - RIGHT), _scale(0, 1, HEIGHT - BOTTOM, TOP)
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    marks = [f'<circle class="dot" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>' for a, b in points] if dots else []
    diagonal = f'<line class="diagonal" x1="{x(0)}" y1="{y(0)}" x2="{x(high)}" y2="{y(1)}"/>'
    ticks = [(x(v), f"{v:.3g}") for v in (0, high / 2, high)]
    return _svg(
        [diagonal, f'<polyline class="curve" points="{path}"/>', *marks],
        ticks,
        [(y(0), "0"), (y(0.5), "0.5"), (y(1), "1")],
        x_label,
        y_label,
    )


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _svg(
    shapes: Sequence[str],
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
) -> str:
    ground = HEIGHT - BOTTOM
    anchors = ["start", *["middle"] * (len(x_ticks) - 2), "end"]
    texts = [
        f'<text x="{x:.1f}" y="{ground + 13}" text-anchor="{anchor}">{escape(t)}</text>'
        for (x, t), anchor in zip(x_ticks, anchors, strict=True)
    ]
    texts += [f'<text x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{escape(t)}</text>' for y, t in y_ticks]
    middle = (LEFT + WIDTH - RIGHT) / 2
    texts.append(f'<text class="name" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    turned = f'transform="rotate(-90 10 {(TOP + ground) / 2})"'
    texts.append(
        f'<text class="name" x="10" y="{(TOP + ground) / 2}" text-anchor="middle" {turned}>{escape(y_label)}</text>'
    )
    axis = f'<path class="axis" d="M{LEFT} {TOP} V{ground} H{WIDTH - RIGHT}"/>'
    name = escape(f"{y_label} by {x_label}", quote=True)
    inside = f"{''.join(shapes)}{axis}{''.join(texts)}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{inside}</svg>'
