"""A conversation: each turn reads only what is new.

Two things are easy to get wrong here. The last id of an answer was generated but never read, and an answer may be
interrupted while an id is read, so the next turn begins with what the engine has not read. And a user's text is encoded
as text, between special tokens that only the template writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model.engine import Engine
from phi3kit.model.sampling import greedy
from phi3kit.records import Message
from phi3kit.serve.pieces import stream
from phi3kit.text.characters import whole_characters
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
        if max_new_tokens is not None and max_new_tokens < 1:
            raise UserError(f"an answer of {max_new_tokens} tokens is none; let it have at least 1")
        self.engine, self.tokenizer, self.sampler = engine, tokenizer, sampler
        self.system = None if system is None else whole_characters(system, "the system message")
        self.max_new_tokens = engine.context if max_new_tokens is None else max_new_tokens
        self._stops = stop_ids(tokenizer)
        self.reset()

    def reset(self) -> None:
        """Begin a new conversation."""
        self.engine.reset()
        self._ids: list[int] = []  # of the conversation, stop ids aside; the engine has read all but some of the last
        self._asked: list[str] = []
        self.cut = False  # whether the last answer ended for want of room rather than by itself

    @property
    def full(self) -> bool:
        """Whether the last answer was cut by the end of the context, so that no turn fits any more."""
        return self.cut and self.engine.position >= self.engine.context

    def fits_alone(self, text: str) -> bool:
        """Whether a text for which the conversation has no room would fit as the first of a new one."""
        return bool(self._ids) and len(self._opening(text)) <= self.engine.context

    def ids_of(self, text: str) -> list[int]:
        """The ids the next turn would read for this text: none of any earlier turn."""
        whole_characters(text, "the text")
        if self._ids:
            return [*self._ids[self.engine.position :], *render_turn(text, self.tokenizer, self._turns())]
        return self._opening(text)

    def _opening(self, text: str) -> list[int]:
        return render([*self._beginning(), Message("user", text)], self.tokenizer, generation=True).ids

    def _beginning(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []

    def _turns(self) -> list[Message]:
        """The conversation up to its last question. What was answered changes no later turn, so some word stands."""
        asked = [turn for text in self._asked for turn in (Message("user", text), Message("assistant", "So."))]
        return [*self._beginning(), *asked[:-1]]

    def ask(self, text: str) -> Iterator[str]:
        """The answer, in pieces that are whole characters.

        Raises:
            UserError: the context has no room for the text and one token of answer, or the text is no text; the
                conversation stays usable.
        """
        ids = self.ids_of(text)
        if self.engine.position + len(ids) > self.engine.context:
            raise UserError(
                f"this turn needs {len(ids)} tokens, {self.engine.context - self.engine.position} of "
                f"{self.engine.context} are left; shorten it or begin a new conversation (/reset)"
            )
        return stream(self._generate(text, ids), self.tokenizer, ids)

    def _generate(self, text: str, ids: list[int]) -> Iterator[int]:
        """The answer's ids, the stop id not among them."""
        self._asked.append(text)
        self._ids = [*self._ids[: self.engine.position], *ids]
        self.cut = True
        answer = self.engine.answer(ids, stop_ids=self._stops, max_new_tokens=self.max_new_tokens, sampler=self.sampler)
        for id in answer:
            self.cut = id not in self._stops
            if self.cut:
                self._ids.append(id)
                yield id
