"""The picture of attention patterns: one panel per different head, rows are queries, columns are keys. Plain SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby
from typing import NamedTuple

SIDE, GAP, LEFT, TOP = 240, 44, 62, 84  # a panel's side, what is between two, and the margins
PER_ROW = 4
COLOURS = {"local": "#2563b0", "remote": "#f08a24", "skipped": "#e4e7eb"}
MEANINGS = {
    "local": "local: the last blocks, for every head",
    "remote": "remote: earlier blocks that this head keeps",
    "skipped": "skipped: this head does not see them",
}
FONT = "font-family='Helvetica, Arial, sans-serif'"


class Panel(NamedTuple):
    """What one head sees: `seen[i][j]` for query block i and key block j; the last `local` are the local window."""

    layers: str
    heads: str
    seen: list[list[bool]]
    local: int

    def kind(self, i: int, j: int) -> str:
        """Of a cell at or before the diagonal."""
        if not self.seen[i][j]:
            return "skipped"
        return "local" if i - j < self.local else "remote"

    def density(self) -> float:
        """Share of the cells up to the diagonal that is seen."""
        n = len(self.seen)
        return sum(map(sum, self.seen)) / (n * (n + 1) / 2)


def picture(panels: list[Panel], tokens: int, block: int) -> str:
    """The SVG.

    Args:
        panels: in order; those of the same layers stand together under a heading.
        tokens: length of the sequence.
        block: tokens in a cell.
    """
    body, y = [], TOP
    across = min(PER_ROW, max(len(list(group)) for _, group in groupby(panels, lambda panel: panel.layers)))
    for layers, same in groupby(panels, lambda panel: panel.layers):
        group = list(same)
        body.append(_text(LEFT, y, layers, size=16, weight="bold"))
        for start in range(0, len(group), PER_ROW):
            for n, panel in enumerate(group[start : start + PER_ROW]):
                body += _panel(panel, LEFT + n * (SIDE + GAP), y + 44, tokens, first=n == 0)
            y += SIDE + 108
    caption = _caption(panels, tokens, block)
    width = max(LEFT + across * (SIDE + GAP), 7 * len(caption) + 2 * LEFT)
    size = f"viewBox='0 0 {width} {y + 26}' width='{width}' height='{y + 26}'"
    body += [_text(LEFT, y + 4, caption, size=13, colour="#444")]
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' {size} {FONT}>",
            "<rect width='100%' height='100%' fill='white'/>",
            *_legend(),
            *body,
            "</svg>\n",
        ]
    )


def _caption(panels: list[Panel], tokens: int, block: int) -> str:
    cell = "one token" if block == 1 else f"{block:,} tokens"
    parts = [f"{tokens:,} tokens, a cell is {cell} each way"]
    for layers, same in groupby(panels, lambda panel: panel.layers):
        shares = [100 * panel.density() for panel in same]
        spread = f"{min(shares):.1f} to " if min(shares) < max(shares) else ""
        parts.append(f"{layers.split(',')[0]} sees {spread}{max(shares):.1f} % of those up to the diagonal")
    return "; ".join(parts) + "."


def _legend() -> Iterator[str]:
    x = LEFT
    for kind, meaning in MEANINGS.items():
        yield f"<rect x='{x}' y='24' width='14' height='14' fill='{COLOURS[kind]}'/>"
        yield _text(x + 20, 36, meaning, size=13)
        x += 44 + int(6.4 * len(meaning))


def _panel(panel: Panel, x: int, y: int, tokens: int, *, first: bool) -> Iterator[str]:
    """Title, cells, frame and axes; only the first of a row names the queries' axis."""
    n = len(panel.seen)
    yield _text(x, y - 22, panel.heads, size=14)
    yield _text(x, y - 6, f"{100 * panel.density():.1f} % of the blocks", size=12, colour="#555")
    yield f"<g transform='translate({x},{y}) scale({SIDE / n:.6g})' shape-rendering='crispEdges'>"
    for kind, colour in COLOURS.items():
        yield f"<path fill='{colour}' d='{_cells(panel, kind)}'/>"
    yield "</g>"
    yield f"<rect x='{x}' y='{y}' width='{SIDE}' height='{SIDE}' fill='none' stroke='#888'/>"
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        place, label = int(share * SIDE), f"{int(share * tokens):,}"
        yield _text(x + place, y + SIDE + 15, label, size=11, colour="#555", anchor=anchor)
        if first:
            yield _text(x - 6, y + place + (9, 4, 0)[int(2 * share)], label, size=11, colour="#555", anchor="end")
    yield _text(x + SIDE // 2, y + SIDE + 30, "key →", size=12, anchor="middle")
    if first:
        turned = f"<g transform='translate({x - 44},{y + SIDE // 2}) rotate(-90)'>"
        yield f"{turned}{_text(0, 0, '← query', size=12, anchor='middle')}</g>"


def _cells(panel: Panel, kind: str) -> str:
    """An SVG path of all cells of a kind, neighbours in a row drawn as one."""
    parts = []
    for i in range(len(panel.seen)):
        for found, run in groupby(range(i + 1), lambda j, i=i: panel.kind(i, j)):  # type: ignore[misc]
            if found == kind:
                places = list(run)
                parts.append(f"M{places[0]} {i}h{len(places)}v1h-{len(places)}z")
    return "".join(parts)


def _text(
    x: float, y: float, text: str, *, size: int, weight: str = "normal", colour: str = "#111", anchor: str = "start"
) -> str:
    style = f"font-size='{size}' font-weight='{weight}' fill='{colour}' text-anchor='{anchor}'"
    return f"<text x='{x:g}' y='{y:g}' {style}>{escape(text)}</text>"
