"""What tells a piece of a question from what anybody might write: letters, and words that say something."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy

from phi3kit.corpus.spaceless import SPACELESS
from phi3kit.corpus.windows import sums_of, window_hashes

WORDING, TEMPLATE = 16, 20  # windows of so many letters that so many questions have are wording
NOT_LETTERS = re.compile(r"[\W_]+")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# English words that say little about a question: pronouns, prepositions, auxiliaries, and the words tests are made of.
FUNCTION_WORDS = (  # noqa: SIM905 (readable as words)
    "a about after all also an and any are as at be because been before being best between both but by can cannot "
    "could did do does doing each following for from had has have having he her here him his how i if in into is it "
    "its just kind like likely made make many may me might more most much must my no nor not of off on one only or "
    "other our out over own same she should so some such than that the their them then there these they thing things "
    "this those through to too type under until up upon use used very was way we were what when where which while who "
    "whom whose why will with without would you your "
    "answer called cause causes considered correct describe describes difference example examples explain explains "
    "false happen happens question reason statement statements true"
).split()


class Enough(NamedTuple):
    """What tells a question's beginning from chance: share of it, letters, content words and words, at least."""

    share: float
    letters: int
    content: int
    words: int


ENOUGH = (
    Enough(0.57, 12, 3, 3),
    Enough(0.57, 13, 2, 5),
    Enough(0.57, 21, 2, 2),
    Enough(0.57, 24, 1, 1),
    Enough(0.57, 34, 0, 1),
    Enough(0.50, 32, 3, 3),
)
MOST = Enough(*map(max, *ENOUGH))
STEM = 3  # letters of a cut word that say which word it is
COMPOUND, IDEOGRAPHS = 8, 2  # letters that count as a word where words are not set apart; in scripts without spaces
NO_CONTENT = frozenset(FUNCTION_WORDS)


def letters(text: str) -> str:
    """Letters and digits of a text, in lower case, compatibility forms as the plain ones."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return NOT_LETTERS.sub("", text.casefold())


def needed(question: str, wording: numpy.ndarray) -> int:
    """How many letters of a question's beginning tell it from chance; 0 if all of it does not.

    Args:
        question: its text.
        wording: which of its letters many questions have (of `wording_of`).
    """
    total = len(wording)
    content_upto, words_upto = _words_upto(question, wording)
    ways = []
    for way in ENOUGH:
        content, words = (
            int(numpy.searchsorted(*pair)) for pair in ((content_upto, way.content), (words_upto, way.words))
        )
        ways.append(max(math.ceil(way.share * total), way.letters, content, words))
    return min((n for n in ways if n <= total), default=0)


def _words_upto(question: str, wording: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """How many content words, and words, the first i letters hold, for i from 0 to all, as far as any way asks.

    A cut word counts by its stem.
    """
    content, words = (numpy.zeros(len(wording) + 1, numpy.int64) for _ in range(2))
    at = n_content = n_words = 0
    for word in map(letters, (match[0] for match in WORD.finditer(question))):
        each = IDEOGRAPHS if SPACELESS.match(word) else COMPOUND
        size, worth = len(word), max(1, len(word) // each)
        if at + size > len(wording) or (n_content >= MOST.content and n_words >= MOST.words):
            break  # (the former by compatibility forms: the rest counts by its letters alone)
        words[at + 1 if size else at] += worth
        n_words += worth
        if size and word not in NO_CONTENT and not wording[at : at + size].all():
            n_content += worth
            for part in range(worth):
                content[at + min(size, STEM + part * each)] += 1
        at += size
    return numpy.cumsum(content), numpy.cumsum(words)


def wording_of(texts: Sequence[str]) -> dict[str, numpy.ndarray]:
    """For the letters of each question, which of them are in a window that many questions have."""
    hashes = {text: window_hashes(sums_of(text), WORDING) for text in dict.fromkeys(texts)}
    once = [numpy.unique(some) for some in hashes.values()]
    values, counts = numpy.unique(numpy.concatenate([numpy.empty(0, numpy.uint64), *once]), return_counts=True)
    common = values[counts >= TEMPLATE]
    return {text: _covered(len(text), numpy.flatnonzero(_among(h, common))) for text, h in hashes.items()}


def _among(values: numpy.ndarray, those: numpy.ndarray) -> numpy.ndarray:
    """Which of some values are in a sorted array."""
    if not len(those):
        return numpy.zeros(len(values), bool)
    return those[numpy.searchsorted(those, values).clip(max=len(those) - 1)] == values


def own_letters(question: str, wording: numpy.ndarray) -> numpy.ndarray:
    """Which letters of a question are its own: neither of function words nor of wording."""
    words = [letters(word) for word in WORD.findall(question)]
    mask = numpy.repeat([word not in NO_CONTENT for word in words], [len(word) for word in words])
    return ~wording & (mask if len(mask) == len(wording) else numpy.ones(len(wording), bool))


def _covered(n: int, starts: numpy.ndarray) -> numpy.ndarray:
    """Which of n letters are in a window of WORDING letters that begins at one of `starts`."""
    steps = numpy.zeros(n + 1, numpy.int64)
    numpy.add.at(steps, starts, 1)
    numpy.add.at(steps, starts + WORDING, -1)
    return numpy.cumsum(steps[:-1]) > 0
