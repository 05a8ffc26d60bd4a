"""Says what is being done, and about how long the rest takes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TextIO, final

PAUSE = 5.0  # seconds between lines within a stage


@final
class Stages:
    """The steps of a long verb, in order.

    Args:
        seconds: about how long each takes, by name.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._left = dict(seconds)
        self._count = len(seconds)
        self._current: tuple[str, float] | None = None
        self._told = 0.0
        self._out: TextIO | None = None  # print's default
        self.took: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """The stage before ends, this one begins."""
        self.end()
        number = self._count - len(self._left) + 1
        left = sum(self._left.values())
        del self._left[name]
        print(f"export [{number}/{self._count}] {name}  (about {left:.0f} s left)", flush=True)
        self._current = (name, time.perf_counter())

    def within(self, done: int, count: int, name: str) -> None:
        """How far the current stage is, said now and then, with an estimate from what it took so far."""
        assert self._current is not None
        now, (stage, began) = time.perf_counter(), self._current
        if done and now - max(self._told, began) > PAUSE:
            self._told = now
            left = (now - began) / done * (count - done)
            said = f"  {stage}: {done} of {count}, then {name}  (about {left:.0f} s left)"
            print(said, file=self._out, flush=True)

    @contextlib.contextmanager
    def aloud(self) -> Iterator[None]:
        """What is told inside is printed although `silenced` keeps everything else off the terminal."""
        try:
            descriptor = os.dup(sys.stdout.fileno())
        except io.UnsupportedOperation:  # it is no file: nobody silences it
            yield
            return
        with os.fdopen(descriptor, "w") as self._out:
            try:
                yield
            finally:
                self._out = None

    def end(self) -> None:
        """The current stage ends."""
        if self._current is not None:
            name, began = self._current
            self.took[name] = round(time.perf_counter() - began, 1)
            self._current = None
