"""Decontamination: is a benchmark's question in this text, whatever became of its case, punctuation and white space?

Only letters and digits are compared, as one string; so nothing that happens between words can hide a question. A match
is a leak (kind "question") where

- the question stands there from its beginning on, whole or cut off after about half;
- or three quarters of it, 40 letters at least, from anywhere in it;
- or 60 letters of it, about the 13 words of GPT-3's rule (arXiv 2005.14165, appendix C).

Each needs letters of its own. Function words are nobody's own ("is there such a thing as"), nor is what occurs in many
questions ("respiratory system" in a school test): a text that holds only such a run is reported as "template", one
that holds a shorter run of a question as "phrase"; neither is a reason to drop it. The matched text is in the hit.

The numbers are measured: of 3,139 pages of the web, of textbooks, novels and Wikipedia, none is dropped for any of nine
benchmarks' 10,081 questions. Their price: of questions of 24 to 32 letters, four to seven words, only whole ones are
found (three words of one are in every other book: "Napoleon Bonaparte was"), and shorter ones never (see `too_short`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy

from phi3kit.corpus.benchmark_files import Question, read_questions
from phi3kit.corpus.minhash import mixed
from phi3kit.records import Conversation, Message, Preference

START = 16  # letters of the window a question's beginning is found by
INNER, STRIDE = 32, 8  # letters of the windows inside a question, one every 8: a run of 39 holds a whole one
TEMPLATE = 20  # what so many questions have in common is wording, in windows of START letters
SHORTEST, SHORT = 24, 32  # letters: questions shorter than the first are not looked for, than the second only whole
# A question's beginning: (share of it, letters, own letters among them); any of these is enough.
ENOUGH = ((0.45, 0, 18), (0.55, 24, 8), (0.57, 0, 14), (1.0, 0, 0))
OWN = 14  # own letters of a phrase
RUN = (40, 0.75, 18)  # letters, share of the question, own letters of a run from anywhere in it
LONG_RUN = (60, 0.0, 18)  # the same, however long the question is
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
NOT_LETTERS = re.compile(r"[\W_]+")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# English words that say little about a question: pronouns, prepositions, auxiliaries, and the words tests are made of.
FUNCTION_WORDS = (  # noqa: SIM905 (readable as words)
    "a about after all also an and any are as at be because been before being best between both but by can cannot "
    "could did do does doing each following for from had has have having he her here him his how i if in into is it "
    "its just kind like likely made make many may me might more most much must my no nor not of off on one only or "
    "other our out over own same she should so some such than that the their them then there these they thing things "
    "this those through to too type under until up upon use used very was way we were what when where which while who "
    "whom whose why will with without would you your"
).split()


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


def letters(text: str) -> str:
    """Letters and digits of a text, in lower case, compatibility forms as the plain ones."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return NOT_LETTERS.sub("", text.casefold())


class Benchmarks:
    """Questions, indexed.

    Args:
        questions: of all benchmarks.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self.questions = [q for q in questions if letters(q.text)]
        self._letters = [letters(q.text) for q in self.questions]
        own = _own_letters(self.questions, self._letters)
        self._own_upto = [numpy.concatenate([[0], numpy.cumsum(mask)]) for mask in own]
        self._needed = [needed(upto) for upto in self._own_upto]
        findable = [i for i, n in enumerate(self._needed) if n]
        self.too_short = [self.questions[i] for i, n in enumerate(self._needed) if not n]
        self._starts = _Windows(START, [self._letters[i][:START] for i in findable], findable)
        self._inner = _Windows(INNER, self._letters, range(len(self._letters)), STRIDE, own)

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
        page = letters(text)
        if len(page) < START:
            return []
        sums = _sums(page)
        runs = {**self._runs_inside(page, sums), **self._beginnings(page, sums)}
        if not runs:
            return []
        places = _places(text, page)
        found = [self._hit(text, page, places, number, *run) for number, run in sorted(runs.items())]
        order = ("question", "phrase", "template")
        return sorted(_one_template(found), key=lambda hit: (order.index(hit.kind), -hit.share))

    def leaks(self, text: str) -> list[Hit]:
        """The hits that are reasons to drop the text."""
        return [hit for hit in self.hits(text) if hit.kind == "question"]

    def _beginnings(self, page: str, sums: numpy.ndarray) -> dict[int, tuple[int, int, int]]:
        """question number -> (place in the page, place in the question, letters), for questions that begin there."""
        found: dict[int, tuple[int, int, int]] = {}
        for at, _, number in self._starts.found(page, sums):
            question = self._letters[number]
            if page.startswith(question[: self._needed[number]], at):
                found.setdefault(number, (at, 0, _common(page, at, question, 0)))
        return found

    def _runs_inside(self, page: str, sums: numpy.ndarray) -> dict[int, tuple[int, int, int]]:
        """The same for the longest run of each question, wherever in it."""
        found: dict[int, tuple[int, int, int]] = {}
        for at, place, number in self._inner.found(page, sums):
            longest = found.get(number)
            if longest and longest[0] - longest[1] == at - place and at < longest[0] + longest[2]:
                continue  # further along the run that is known
            before = _common(page[:at][::-1], 0, self._letters[number][:place][::-1], 0)
            length = before + _common(page, at, self._letters[number], place)
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
        kind = "question" if begins or runs else "phrase" if own >= OWN else "template"
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


def _one_template(hits: Iterable[Hit]) -> Iterator[Hit]:
    """All hits, but each piece of wording once, for the first question that has it."""
    seen = set()
    for hit in hits:
        key = (hit.benchmark, hit.matched)
        if hit.kind != "template" or key not in seen:
            yield hit
        if hit.kind == "template":
            seen.add(key)


def needed(own_upto: numpy.ndarray) -> int:
    """How many letters of a question's beginning tell it from a phrase; 0 if it is too short to be told.

    Args:
        own_upto: how many of the question's first i letters are its own, for i from 0 to all.
    """
    total = len(own_upto) - 1
    if total < SHORTEST:
        return 0
    ways = ENOUGH if total >= SHORT else ENOUGH[-1:]
    return min(
        max(math.ceil(share * total), START, n, int(numpy.searchsorted(own_upto, own))) for share, n, own in ways
    )  # the last way is always open


def _own_letters(questions: Sequence[Question], texts: Sequence[str]) -> list[numpy.ndarray]:
    """For each question, which of its letters are its own."""
    hashes = {text: _window_hashes(_sums(text), START) for text in dict.fromkeys(texts)}
    once = [numpy.unique(some) for some in hashes.values()]
    values, counts = numpy.unique(numpy.concatenate([numpy.empty(0, numpy.uint64), *once]), return_counts=True)
    common = values[counts >= TEMPLATE]
    wording = {text: _covered(len(text), numpy.flatnonzero(numpy.isin(h, common))) for text, h in hashes.items()}
    return [
        ~wording[text] & _content(question.text, len(text)) for question, text in zip(questions, texts, strict=True)
    ]


def _content(text: str, n_letters: int) -> numpy.ndarray:
    """Which of the letters of a text are not of function words."""
    words = [letters(word) for word in WORD.findall(text)]
    mask = numpy.repeat([word not in FUNCTION_WORDS for word in words], [len(word) for word in words])
    return mask if len(mask) == n_letters else numpy.ones(n_letters, bool)


def _covered(n: int, starts: numpy.ndarray) -> numpy.ndarray:
    """Which of n letters are in a window of START letters that begins at one of `starts`."""
    steps = numpy.zeros(n + 1, numpy.int64)
    numpy.add.at(steps, starts, 1)
    numpy.add.at(steps, starts + START, -1)
    return numpy.cumsum(steps[:-1]) > 0


# ------------------------------------------------------------------------------------------------ windows


class _Windows:
    """Windows of some texts, by their hashes; one without own letters stands only for the first text that has it."""

    def __init__(
        self,
        size: int,
        texts: Sequence[str],
        numbers: Sequence[int],
        stride: int = 1,
        own: Sequence[numpy.ndarray] | None = None,
    ) -> None:
        hashes, places, owners = [], [], []
        wording: set[int] = set()
        for i, (text, number) in enumerate(zip(texts, numbers, strict=True)):
            if len(text) >= size:
                some = _window_hashes(_sums(text), size)[::stride]
                at = numpy.arange(len(some)) * stride
                if own is not None:
                    upto = numpy.concatenate([[0], numpy.cumsum(own[i])])
                    none = (upto[at + size] == upto[at]).tolist()
                    keep = [not (n and h in wording) for n, h in zip(none, some.tolist(), strict=True)]
                    wording.update(h for n, h in zip(none, some.tolist(), strict=True) if n)
                    some, at = some[keep], at[keep]
                hashes.append(some)
                places.append(at)
                owners.append(numpy.full(len(some), number))
        self.size = size
        everything = numpy.concatenate([numpy.empty(0, numpy.uint64), *hashes])
        order = numpy.argsort(everything, kind="stable")
        self._hashes = everything[order]
        self._places = numpy.concatenate([numpy.empty(0, numpy.int64), *places])[order]
        self._owners = numpy.concatenate([numpy.empty(0, numpy.int64), *owners])[order]
        bits = max(16, len(order).bit_length() + 4)
        self._shift = numpy.uint64(64 - bits)
        self._maybe = numpy.zeros(2**bits, bool)  # a look here spares most searches
        self._maybe[self._hashes >> self._shift] = True

    def found(self, page: str, sums: numpy.ndarray) -> Iterator[tuple[int, int, int]]:
        """(place in the page, place in the text, number of the text) of each window of the page that is in a text."""
        if len(page) < self.size:
            return
        hashes = _window_hashes(sums, self.size)
        ats = numpy.flatnonzero(self._maybe[hashes >> self._shift])
        lows, highs = (numpy.searchsorted(self._hashes, hashes[ats], side) for side in ("left", "right"))
        real = numpy.flatnonzero(highs > lows)
        for at, low, high in zip(ats[real].tolist(), lows[real].tolist(), highs[real].tolist(), strict=True):
            for i in range(low, high):
                yield at, int(self._places[i]), int(self._owners[i])


def _sums(text: str) -> numpy.ndarray:
    """Sum of code(c_j) BASE^j over the first i characters, modulo 2^64, for every i; uint64 [n + 1]."""
    codes = numpy.frombuffer(text.encode("utf-32-le"), numpy.uint32).astype(numpy.uint64)
    terms = mixed(codes) * _powers(len(codes))[0]
    return numpy.concatenate([numpy.zeros(1, numpy.uint64), numpy.cumsum(terms, dtype=numpy.uint64)])


def _window_hashes(sums: numpy.ndarray, size: int) -> numpy.ndarray:
    """Hash of the `size` characters from each place on; the same wherever they stand."""
    if len(sums) <= size:
        return numpy.empty(0, numpy.uint64)
    return mixed((sums[size:] - sums[:-size]) * _powers(len(sums) - size)[1])


def _powers(n: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """BASE^j and BASE^-j modulo 2^64 for j < n."""
    up, down = _power_tables(max(14, (n - 1).bit_length()))
    return up[:n], down[:n]


@lru_cache(8)
def _power_tables(bits: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    tables = []
    for base in (BASE, pow(BASE, -1, 2**64)):
        factors = numpy.full(2**bits, base, numpy.uint64)
        factors[0] = 1
        tables.append(numpy.multiply.accumulate(factors))
    return tables[0], tables[1]


def _common(one: str, i: int, two: str, j: int) -> int:
    """How many characters are the same from one[i] and two[j] on."""
    low, high = 0, min(len(one) - i, len(two) - j)
    while low < high:
        middle = (low + high + 1) // 2
        if one[i + low : i + middle] == two[j + low : j + middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _places(text: str, page: str) -> list[int] | None:
    """Where in the text each letter of the page is; None where compatibility forms hide it."""
    places = [i for i, character in enumerate(text) for _ in letters(character)]
    return places if len(places) == len(page) else None
