"""Decontamination: is a benchmark's question in this text, whatever became of its case, punctuation and white space?

Only letters and digits are compared, as one string; so nothing that happens between words can hide a question. A match
is a leak (kind "question") where

- the question stands there from its beginning on, whole or cut off after six tenths, and that much of it is more than
  anybody might write: 12 letters with three content words, 21 with two, 34 with any (all ways: `ENOUGH`);
- or as much of it, 12 letters at least, stands out: alone between two breaks, or cut off amid a word (`position`);
- or three quarters of it, 40 letters at least, from anywhere in it;
- or 60 letters of it, about the 13 words of GPT-3's rule (arXiv 2005.14165, appendix C).

A page number, a running head or the like within a question is passed over: what goes on within 80 letters, as a run of
12 or to its end, counts as one with what came before. HTML's tags and entities are breaks (`tags`). Of a question of
which a page has half, or pieces of another order, or with a break in its first 12 letters, nothing is said: the limits.

Function words and the words that tests are made of are no content ("which of the following statements"), nor is what
occurs in many questions ("respiratory system" in a school test): a text that holds only such a run is reported as
"template", one that holds a shorter run of a question as "phrase"; neither is a reason to drop it. The matched text is
in the hit. Formulas ("25-759=") are compared sign by sign instead, white space aside.

The numbers are measured (`benchmarks/decontamination.py`): of 26,000 documents, web pages, textbooks, novels, manuals
and chats, none is dropped for the beginning of any of 23,182 questions. What anybody might write cannot be told from
what was pasted: amid other words, "make a grilled cheese" is a whole question of PIQA, "Napoleon Bonaparte was" two
thirds of one of BIG-bench. Questions of that kind are in `too_short`; they are told where they stand alone, and one of
12 letters or more, met whole, is reported as "phrase" elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy

from phi3kit.corpus.benchmark_files import Question, read_questions
from phi3kit.corpus.evidence import letters, needed, own_letters, wording_of
from phi3kit.corpus.formulas import Formulas
from phi3kit.corpus.position import Page, stands_out
from phi3kit.corpus.tags import without_tags
from phi3kit.corpus.windows import Windows, common, sums_of
from phi3kit.records import Conversation, Message, Preference

START = 12  # letters of the window a question's beginning is found by
GAP, GAPS = 80, 3  # letters of a page within a question that are passed over; how often
REST = 8  # letters at least that are left of a question behind a gap
SHARE, LUCK = 0.55, 2  # of a question that stands out; letters that what follows it may have in common with it
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


class Run(NamedTuple):
    """Letters that a page and a question have in common: place in the page, in the question, how many.

    `told` where they are more than chance; `span` letters of the page where some within are not the question's.
    """

    at: int
    place: int
    length: int
    told: bool = False
    span: int = 0


class Benchmarks:
    """Questions, indexed.

    Args:
        questions: of all benchmarks.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self.questions = [q for q in questions if letters(without_tags(q.text))]
        self._pages = [Page(q.text) for q in self.questions]
        self._letters = [page.letters for page in self._pages]
        wording = wording_of(self._letters)
        each = [(page.bare, wording[page.letters]) for page in self._pages]
        own = [own_letters(*question) for question in each]
        self._own_upto = [numpy.concatenate([[0], numpy.cumsum(mask)]) for mask in own]
        self._needed = [needed(*question) for question in each]
        outstanding = [max(START, math.ceil(SHARE * len(text))) for text in self._letters]
        self._least = [min(n, m) if n else m for n, m in zip(self._needed, outstanding, strict=True)]
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
        page = Page(text)
        sums = sums_of(page.letters)
        runs = {**self._runs_inside(page.letters, sums), **self._beginnings(page, sums)}
        for number, run in sorted(runs.items()):
            yield self._hit(page, number, run)

    def _formulas_in(self, text: str) -> Iterator[Hit]:
        for number, signs, share in self._formulas.found(text):
            yield Hit(self.questions[number].benchmark, self.questions[number].id, signs, "question", share)

    def _beginnings(self, page: Page, sums: numpy.ndarray) -> dict[int, Run]:
        """Question number -> where it begins, for questions of which enough stands there."""
        found: dict[int, Run] = {}
        for at, _, number in self._starts.found(page.letters, sums):
            question = self._letters[number]
            length = common(page.letters, at, question, 0)
            joined, end = _over_gaps(page.letters, at, question, length)
            if joined < self._least[number]:
                continue
            told = 0 < self._needed[number] <= joined or self._stands_out(page, at, number, length)
            if told or (joined == len(question) and number not in found):
                found[number] = Run(at, 0, joined, told, end - at)
        return found

    def _stands_out(self, page: Page, at: int, number: int, length: int) -> bool:
        """Whether so much of a question's beginning stands out; or a letter or two less, if the page goes on alike."""
        if length < self._least[number]:
            return False
        ends = range(max(self._least[number], length - LUCK), length + 1)
        return any(stands_out(page, at, self._pages[number], end) for end in ends)

    def _runs_inside(self, page: str, sums: numpy.ndarray) -> dict[int, Run]:
        """The longest run of each question, wherever in it."""
        found: dict[int, Run] = {}
        for at, place, number in self._inner.found(page, sums):
            longest = found.get(number)
            if longest and longest.at - longest.place == at - place and at < longest.at + longest.length:
                continue  # further along the run that is known
            before = common(page[:at][::-1], 0, self._letters[number][:place][::-1], 0)
            length = before + common(page, at, self._letters[number], place)
            if not longest or length > longest.length:
                found[number] = Run(at - before, place - before, length)
        return found

    def _hit(self, page: Page, number: int, run: Run) -> Hit:
        question, total = self.questions[number], len(self._letters[number])
        length, upto = run.length, self._own_upto[number]
        own = int(upto[run.place + length] - upto[run.place])
        runs = any(length >= n and length >= share * total and own >= least for n, share, least in (RUN, LONG_RUN))
        kind: Literal["question", "phrase", "template"]
        kind = "question" if run.told or runs else "phrase" if own >= OWN or length == total else "template"
        return Hit(question.benchmark, question.id, page.part(run.at, run.span or length), kind, length / total)


def _over_gaps(page: str, at: int, question: str, length: int) -> tuple[int, int]:
    """How much of a question stands in a page from a place on, gaps passed over, and where that ends.

    Args:
        page: its letters.
        at: where the question begins.
        question: its letters.
        length: how many of them stand there without a gap.
    """
    end = at + length
    for _ in range(GAPS):
        for back in range(LUCK + 1):  # letters that the gap begins with and the question goes on with
            onwards = question[length - back : length - back + START]
            there = page.find(onwards, end - back + 1, end + GAP + START) if len(onwards) >= REST else -1
            if there >= 0:
                more = common(page, there, question, length - back)
                length, end = length - back + more, there + more
                break
        else:
            break
    return length, end


def hits_of(row: Conversation | Preference, benchmarks: Benchmarks) -> list[Hit]:
    """Hits in any message of a row to fine-tune on."""
    messages: tuple[Message, ...]
    if isinstance(row, Conversation):
        messages = row.messages
    else:
        messages = (*row.prompt, *row.chosen, *row.rejected)
    return [hit for message in messages for hit in benchmarks.hits(message.said)]


def _each_once(hits: Iterable[Hit]) -> Iterator[Hit]:
    """All hits but those that match a piece of what one before matches: of questions that begin alike, the longest."""
    seen: dict[str, list[str]] = {}
    for hit in hits:
        longer = seen.setdefault(hit.benchmark, [])
        if not any(hit.matched in text for text in longer):
            longer.append(hit.matched)
            yield hit
