"""How far a long step is: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
PAUSE = 10.0  # seconds between plain lines


class Progress:
    """Shows steps, one after the other.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def track(self, items: Iterable[T], step: str, total: int | None = None) -> Iterator[T]:
        """The items, counted while they pass; with a `total`, what is left is estimated."""
        if self.quiet:
            return iter(items)
        return _bar(items, step, total) if sys.stderr.isatty() else _lines(items, step, total)


def _bar(items: Iterable[T], step: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = [TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Bars(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        yield from bars.track(items, total=total, description=step)


def _lines(items: Iterable[T], step: str, total: int | None) -> Iterator[T]:
    began = told = time.monotonic()
    n = 0
    for n, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - told > PAUSE:
            told = now
            left = f" of {total}, about {(now - began) / n * (total - n):.0f} s left" if total else ""
            print(f"{step}: {n}{left}", file=sys.stderr, flush=True)
    print(f"{step}: {n} in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
