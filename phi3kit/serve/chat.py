"""A conversation: each turn reads only what is new.

Two things are easy to get wrong here. The id that ends an answer was generated but never read, so the next turn
begins with it. And a user's text is encoded as text, between special tokens that only the template writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import final

from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model.engine import Engine
from phi3kit.model.sampling import greedy
from phi3kit.records import Message
from phi3kit.text.template import render, render_turn, stop_ids


@final
class Chat:
    """Several turns with one engine.

    Args:
        engine: what answers; the chat resets it.
        tokenizer: the one the engine was trained with.
        sampler: picks an id from logits, [V].
        system: instructions that come before everything else.
        max_new_tokens: the longest answer, in tokens; None: as long as the context lasts.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        sampler: Callable[[Tensor], int] = greedy,
        system: str | None = None,
        max_new_tokens: int | None = None,
    ) -> None:
        self.engine, self.tokenizer, self.sampler = engine, tokenizer, sampler
        self.system = system
        self.max_new_tokens = engine.context if max_new_tokens is None else max_new_tokens
        self._stops = stop_ids(tokenizer)
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation."""
        self.engine.reset()
        self._unread: list[int] = []  # generated at the end of the last answer, if not a stop id
        self.cut = False  # whether the last answer ended for want of room rather than by itself

    def ids_of(self, text: str) -> list[int]:
        """The ids the next turn would read for this text: none of any earlier turn."""
        if self.engine.position:
            return [*self._unread, *render_turn(text, self.tokenizer)]
        system = [Message("system", self.system)] if self.system else []
        return render([*system, Message("user", text)], self.tokenizer, generation=True).ids

    def ask(self, text: str) -> Iterator[str]:
        """The answer, in pieces that are whole characters.

        Raises:
            UserError: the context has no room for the text and one token of answer; the conversation stays usable.
        """
        ids = self.ids_of(text)
        if self.engine.position + len(ids) > self.engine.context:
            raise UserError(
                f"this turn needs {len(ids)} tokens, {self.engine.context - self.engine.position} of "
                f"{self.engine.context} are left; shorten it or begin a new conversation (/reset)"
            )
        return stream(self._generate(ids), self.tokenizer)

    def _generate(self, ids: list[int]) -> Iterator[int]:
        """The answer's ids, the stop id not among them."""
        self.cut = True
        answer = self.engine.answer(ids, stop_ids=self._stops, max_new_tokens=self.max_new_tokens, sampler=self.sampler)
        for id in answer:
            self.cut = id not in self._stops
            self._unread = [id] if self.cut else []
            if self.cut:
                yield id


def stream(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Text of ids as they come; a character whose bytes are still incomplete waits for the rest."""
    lead = " " if tokenizer.decode(tokenizer.encode("a")) == " a" else ""  # a device decoder keeps Llama's space
    read: list[int] = []
    text, sent = "", 0
    for id in ids:
        read.append(id)
        text = tokenizer.decode(read).removeprefix(lead)
        if len(text) > sent and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[sent:]
            sent = len(text)
    if text[sent:]:
        yield text[sent:]
