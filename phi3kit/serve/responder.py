"""One engine that answers one request after another, reading only what it has not read yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import final

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model.engine import Engine
from phi3kit.serve.pieces import stream
from phi3kit.serve.protocol import Ask, Reply
from phi3kit.text.template import stop_ids


@final
class Responder:
    """Answers requests with an engine. A prompt that continues what the engine holds is read from there on.

    Args:
        engine: what answers.
        tokenizer: the one it was trained with.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self.engine, self.tokenizer = engine, tokenizer
        self._stops = stop_ids(tokenizer)
        self._sequence: list[int] = []  # what the engine has read, and perhaps an id it has not

    def check(self, ask: Ask) -> None:
        """Raise `UserError` where the prompt leaves no room for one token of an answer."""
        if len(ask.ids) > self.engine.context:
            raise UserError(
                f"the prompt has {len(ask.ids)} tokens, the model's context is {self.engine.context}; shorten it"
            )

    def answer(self, ask: Ask, reply: Reply, unwanted: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """The answer's text in pieces; `reply` keeps count and learns why it ended.

        Args:
            ask: the request.
            reply: the answer's account.
            unwanted: whether nobody waits for it any more; asked before every id.
        """
        pieces = stream(self._generate(ask, reply, unwanted), self.tokenizer, ask.ids)
        yield from _until(pieces, ask.stops, reply) if ask.stops else pieces

    def _generate(self, ask: Ask, reply: Reply, unwanted: Callable[[], bool]) -> Iterator[int]:
        if unwanted():
            return
        read = self._held(ask.ids)
        if not read:
            self.engine.reset()
        self._sequence = list(ask.ids)
        reply.finish_reason = "length"
        ids = self.engine.answer(
            ask.ids[read:], stop_ids=self._stops, max_new_tokens=ask.max_new_tokens, sampler=ask.sampler
        )
        for id in ids:
            self._sequence.append(id)
            if id in self._stops:
                reply.finish_reason = "stop"
                return
            reply.completion_tokens += 1
            yield id
            if unwanted():
                return

    def _held(self, ids: list[int]) -> int:
        """How many of these ids the engine holds already: all it has read, or none."""
        read = self.engine.position
        return read if read < len(ids) and self._sequence[:read] == ids[:read] else 0


def _until(pieces: Iterable[str], stops: list[str], reply: Reply) -> Iterator[str]:
    """Pieces up to the first of the stop texts; what may be the beginning of one is held back."""
    held = ""
    for piece in pieces:
        held += piece
        found = [held.find(stop) for stop in stops if stop in held]
        if found:
            if before := held[: min(found)]:
                yield before
            reply.finish_reason = "stop"
            return
        keep = max(_begun(held, stop) for stop in stops)
        if free := held[: len(held) - keep]:
            yield free
        held = held[len(held) - keep :]
    if held:
        yield held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
