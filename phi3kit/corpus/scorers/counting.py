"""How far a step of unknown length is: a line on standard error now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
PAUSE = 10.0  # seconds between lines


def counted(items: Iterable[T], step: str, quiet: bool) -> Iterator[T]:
    """The items, counted while they pass."""
    began = told = time.monotonic()
    for n, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if not quiet and now - told > PAUSE:
            told = now
            print(f"{step}: {n} in {now - began:.0f} s", file=sys.stderr, flush=True)
