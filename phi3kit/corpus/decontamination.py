"""Decontamination: is a benchmark's question in this text, whatever became of its case, punctuation and white space?

Only letters and digits are compared, as one string; so nothing that happens between words can hide a question. A match
is a leak (kind "question") where

- the question stands there from its beginning on, whole or cut off after six tenths, and that much of it is more than
  anybody might write: 12 letters with three content words, 21 with two, 34 with any (all ways: `ENOUGH`);
- or three quarters of it, 40 letters at least, from anywhere in it;
- or 60 letters of it, about the 13 words of GPT-3's rule (arXiv 2005.14165, appendix C).

Function words and the words that tests are made of are no content ("which of the following statements"), nor is what
occurs in many questions ("respiratory system" in a school test): a text that holds only such a run is reported as
"template", one that holds a shorter run of a question as "phrase"; neither is a reason to drop it. The matched text is
in the hit. Formulas ("25-759=") are compared sign by sign instead, white space aside.

The numbers are measured (`benchmarks/decontamination.py`): of 11,293 documents, web pages, textbooks, novels, manuals
and chats, none is dropped for the beginning of any of 23,182 questions. What anybody might write cannot be told from
what was pasted: "make a grilled cheese" is a whole question of PIQA, "Napoleon Bonaparte was" two thirds of one of
BIG-bench. Questions of that kind are in `too_short`; one of 12 letters or more, met whole, is reported as "phrase".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy

from phi3kit.corpus.benchmark_files import Question, read_questions
from phi3kit.corpus.evidence import letters, needed, own_letters, wording_of
from phi3kit.corpus.formulas import Formulas
from phi3kit.corpus.windows import Windows, common, sums_of
from phi3kit.records import Conversation, Message, Preference

START = 12  # letters of the window a question's beginning is found by
INNER, STRIDE = 32, 8  # letters of the windows inside a question, one every 8: a run of 39 holds a whole one
OWN = 14  # own letters of a phrase
RUN = (40, 0.75, 18)  # letters, share of the question, own letters of a run from anywhere in it
LONG_RUN = (60, 0.0, 18)  # the same, however long the question is


class Hit(NamedTuple):
    """A piece of a benchmark in a text.

    `share` is how much of the question it is. `kind` is "question" for a leak, "phrase" for less than one, "template"
    for wording that many questions of the benchmark have.
    """

    benchmark: str
    question: str
    matched: str
    kind: Literal["question", "phrase", "template"]
    share: float


class Benchmarks:
    """Questions, indexed.

    Args:
        questions: of all benchmarks.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self.questions = [q for q in questions if letters(q.text)]
        self._letters = [letters(q.text) for q in self.questions]
        wording = wording_of(self._letters)
        each = [(q.text, wording[text]) for q, text in zip(self.questions, self._letters, strict=True)]
        own = [own_letters(*question) for question in each]
        self._own_upto = [numpy.concatenate([[0], numpy.cumsum(mask)]) for mask in own]
        self._needed = [needed(*question) for question in each]
        self._formulas = Formulas(self.questions)
        told = [n > 0 or self._formulas.tells(i) for i, n in enumerate(self._needed)]
        self.too_short = [question for question, is_told in zip(self.questions, told, strict=True) if not is_told]
        self._starts = Windows(START, [text[:START] for text in self._letters], range(len(self._letters)))
        self._inner = Windows(INNER, self._letters, range(len(self._letters)), STRIDE, own)

    @classmethod
    def load(cls, files: Iterable[str | Path], fields: Sequence[str] = ()) -> Benchmarks:
        """Read and index files of questions.

        Args:
            files: JSONL, JSON, CSV or TSV; the name of each is the name of its benchmark.
            fields: where the question is in a row, tried in order; empty: the usual names.
        """
        return cls(question for file in files for question in read_questions(Path(file), fields))

    def hits(self, text: str) -> list[Hit]:
        """Every question the text holds a piece of, leaks first."""
        found = [*self._words(text), *self._formulas_in(text)]
        order = ("question", "phrase", "template")
        return list(_each_once(sorted(found, key=lambda hit: (order.index(hit.kind), -hit.share))))

    def leaks(self, text: str) -> list[Hit]:
        """The hits that are reasons to drop the text."""
        return [hit for hit in self.hits(text) if hit.kind == "question"]

    def _words(self, text: str) -> Iterator[Hit]:
        page = letters(text)
        sums = sums_of(page)
        runs = {**self._runs_inside(page, sums), **self._beginnings(page, sums)}
        places = _places(text, page) if runs else None
        for number, run in sorted(runs.items()):
            yield self._hit(text, page, places, number, *run)

    def _formulas_in(self, text: str) -> Iterator[Hit]:
        for number, signs, share in self._formulas.found(text):
            yield Hit(self.questions[number].benchmark, self.questions[number].id, signs, "question", share)

    def _beginnings(self, page: str, sums: numpy.ndarray) -> dict[int, tuple[int, int, int]]:
        """question number -> (place in the page, place in the question, letters), for questions that begin there."""
        found: dict[int, tuple[int, int, int]] = {}
        for at, _, number in self._starts.found(page, sums):
            question = self._letters[number]
            if page.startswith(question[: self._needed[number] or None], at):
                found.setdefault(number, (at, 0, common(page, at, question, 0)))
        return found

    def _runs_inside(self, page: str, sums: numpy.ndarray) -> dict[int, tuple[int, int, int]]:
        """The same for the longest run of each question, wherever in it."""
        found: dict[int, tuple[int, int, int]] = {}
        for at, place, number in self._inner.found(page, sums):
            longest = found.get(number)
            if longest and longest[0] - longest[1] == at - place and at < longest[0] + longest[2]:
                continue  # further along the run that is known
            before = common(page[:at][::-1], 0, self._letters[number][:place][::-1], 0)
            length = before + common(page, at, self._letters[number], place)
            if not longest or length > longest[2]:
                found[number] = (at - before, place - before, length)
        return found

    def _hit(
        self, text: str, page: str, places: list[int] | None, number: int, at: int, place: int, length: int
    ) -> Hit:
        question, total = self.questions[number], len(self._letters[number])
        upto = self._own_upto[number]
        own = int(upto[place + length] - upto[place])
        begins = place == 0 and 0 < self._needed[number] <= length
        runs = any(length >= n and length >= share * total and own >= least for n, share, least in (RUN, LONG_RUN))
        kind: Literal["question", "phrase", "template"]
        kind = "question" if begins or runs else "phrase" if own >= OWN or length == total else "template"
        matched = text[places[at] : places[at + length - 1] + 1] if places else page[at : at + length]
        return Hit(question.benchmark, question.id, matched, kind, length / total)


def hits_of(row: Conversation | Preference, benchmarks: Benchmarks) -> list[Hit]:
    """Hits in any message of a row to fine-tune on."""
    messages: tuple[Message, ...]
    if isinstance(row, Conversation):
        messages = row.messages
    else:
        messages = (*row.prompt, *row.chosen, *row.rejected)
    return [hit for message in messages for hit in benchmarks.hits(message.content)]


def _each_once(hits: Iterable[Hit]) -> Iterator[Hit]:
    """All hits but those that match a piece of what one before matches: of questions that begin alike, the longest."""
    seen: dict[str, list[str]] = {}
    for hit in hits:
        longer = seen.setdefault(hit.benchmark, [])
        if not any(hit.matched in text for text in longer):
            longer.append(hit.matched)
            yield hit


def _places(text: str, page: str) -> list[int] | None:
    """Where in the text each letter of the page is; None where compatibility forms hide it."""
    places = [i for i, character in enumerate(text) for _ in letters(character)]
    return places if len(places) == len(page) else None
