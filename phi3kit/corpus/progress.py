"""How far a long step is: a plain line now and then, and one when it is done."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 10.0  # seconds between lines


class Progress:
    """Shows steps, one after the other.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def step(self, name: str, total: int, count: Callable[[], int]) -> Iterator[None]:
        """Tell of a step while the block runs.

        Args:
            name: of the step.
            total: how many pieces of work it has.
            count: how many of them are done by now.
        """
        if self.quiet:
            yield
            return
        began, before, over = time.monotonic(), count(), threading.Event()

        def watch() -> None:
            while not over.wait(PAUSE):
                done, spent = count(), time.monotonic() - began
                rest = f", about {spent / (done - before) * (total - done):.0f} s left" if done > before else ""
                print(f"{name}: {done} of {total} in {spent:.0f} s{rest}", file=sys.stderr, flush=True)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        pieces = f" ({total} pieces)" if total > 1 else ""
        print(f"{name}{pieces}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
