"""Multiple choice by likelihood: the choice that a net finds most likely, for each byte of it, is its answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any, final

from phi3kit.errors import UserError
from phi3kit.evaluation.likelihood import Row, nats
from phi3kit.families import Tokenizer
from phi3kit.measures import choice, guessing
from phi3kit.model import Decoder


@dataclass(frozen=True)
class Asked:
    """A question, its choices and the number of the right one."""

    prompt: str
    choices: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class Answers:
    """What a net answered.

    Args:
        right: questions answered as they should be.
        asked: questions.
        chance: share that guessing answers on average.
        p: probability that guessing answers at least as many.
    """

    right: int
    asked: int
    chance: float
    p: float


@final
class MultipleChoice:
    """Questions with choices, of a JSONL file. Likelihoods are per byte of a choice (lm-eval's ``acc_norm``).

    Args:
        name: what tables call it.
        path: the file.
        limit: ask at most so many, spread evenly over the file; null: all.
        between: what stands between a question and a choice.
        question_field: the key of the question.
        choices_field: the key of the list of choices.
        answer_field: the key of the right choice's number, from 0.
    """

    def __init__(
        self,
        name: str,
        path: str,
        limit: int | None = None,
        between: str = " ",
        question_field: str = "query",
        choices_field: str = "choices",
        answer_field: str = "gold",
    ) -> None:
        if not Path(path).is_file():
            raise UserError(f"there is no file of questions {path!r}")
        self.name, self.path, self.limit, self.between = name, path, limit, between
        self.question_field, self.choices_field, self.answer_field = question_field, choices_field, answer_field

    @property
    def version(self) -> str:
        """Hash of the file and of how it is asked."""
        how = [self.limit, self.between, self.question_field, self.choices_field, self.answer_field]
        return sha256(Path(self.path).read_bytes() + repr(how).encode()).hexdigest()[:16]

    def read(self) -> list[Asked]:
        """The questions, in order. Raises `UserError` with the line of a bad one."""
        lines = Path(self.path).read_text(encoding="utf-8").splitlines()
        found = [self._parse(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
        if not found:
            raise UserError(f"{self.path} holds no questions; give a file of one JSON object per line")
        wanted = min(self.limit or len(found), len(found))
        return [found[i * len(found) // wanted] for i in range(wanted)]

    def _parse(self, line: str, number: int) -> Asked:
        place = f"{self.path}:{number}"
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise UserError(f"{place} is not JSON: {error}") from error
        for key in (self.question_field, self.choices_field, self.answer_field):
            if not isinstance(row, dict) or key not in row:
                keys = ", ".join(row) if isinstance(row, dict) else type(row).__name__
                raise UserError(f"{place} has no {key!r} (it has: {keys}); set the fields' names")
        asked = Asked(row[self.question_field], tuple(row[self.choices_field]), row[self.answer_field])
        if len(asked.choices) < 2 or asked.right not in range(len(asked.choices)):
            told = f"the right answer is {asked.right!r} of {len(asked.choices)} choices"
            raise UserError(f"{place}: {told}; give its number, counted from 0")
        return asked

    def ask(self, net: Decoder, tokenizer: Tokenizer) -> Answers:
        """Ask a net all of them."""
        questions = self.read()
        rows = [self._row(q.prompt, text, tokenizer, net.dims.context) for q in questions for text in q.choices]
        costs = iter(nats(net, rows))
        right = 0
        for question in questions:
            per_byte = [-next(costs) / max(1, len(text.encode())) for text in question.choices]
            right += choice(per_byte) == question.right
        counts = [len(question.choices) for question in questions]
        return Answers(right, len(questions), sum(1 / n for n in counts) / len(counts), guessing(right, counts))

    def _row(self, prompt: str, text: str, tokenizer: Tokenizer, context: int) -> Row:
        """Prompt and choice as ids; where both are too long, the prompt loses its beginning."""
        read = tokenizer.encode(prompt + self.between.rstrip(" "))
        whole = tokenizer.encode(prompt + self.between + text)
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(read, whole, strict=False))
        given = min(sum(1 for _ in alike), len(whole) - 1)
        cut = max(0, len(whole) - context - 1)
        return Row(whole[cut:], max(1, given - cut))
