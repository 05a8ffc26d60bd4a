"""Answers take turns at the engine, each in a thread of its own; one that nobody waits for gives its turn away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, final

END = None  # after an answer's last piece


@final
class Turns:
    """The queue before one engine."""

    def __init__(self) -> None:
        self._engine = asyncio.Lock()

    async def pieces(self, answer: Callable[[Callable[[], bool]], Iterator[str]]) -> AsyncGenerator[str, None]:
        """The pieces of an answer, once it is its turn. Its turn ends with its last id, not with its reader, who may
        be slow. A reader that is cancelled or closes this ends the answer before its next id, or leaves the queue.

        Args:
            answer: makes the pieces; it is given a function that says whether they are still wanted.
        """
        loop, queue, left = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

        def work() -> None:
            last: Any = END
            try:
                for piece in answer(left.is_set):
                    loop.call_soon_threadsafe(queue.put_nowait, piece)
            except Exception as error:  # handed to whoever waits for the pieces
                last = error
            loop.call_soon_threadsafe(queue.put_nowait, last)

        await self._engine.acquire()
        try:
            done = loop.run_in_executor(None, work)
        except BaseException:
            self._engine.release()
            raise
        done.add_done_callback(lambda _: self._engine.release())
        try:
            while (piece := await queue.get()) is not END:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            left.set()
