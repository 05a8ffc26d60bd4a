"""Gopher's repetition rules: lines, paragraphs and runs of words that come again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import final

from phi3kit.corpus.words import FineWebWords, words_of
from phi3kit.families import Filter, Splitter
from phi3kit.records import Document

# Shares of the characters (Gopher, arXiv 2112.11446, table A1).
MOST_OF_ONE_N_GRAM = {2: 0.20, 3: 0.18, 4: 0.16}
MOST_REPEATED_N_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
PARAGRAPHS, LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


@final
class GopherRepetition(Filter):
    """Gopher's repetition rules (arXiv 2112.11446, table A1).

    Verdicts equal datatrove's GopherRepetitionFilter with the same words; an n-gram is compared as words, not as
    letters run together.

    Args:
        words: what a word is; null: FineWebWords, where punctuation is a word.
        most_repeated_lines: share of the lines that came before.
        most_repeated_paragraphs: share of the paragraphs that came before.
        most_characters_in_lines: share of the characters in lines that came before.
        most_characters_in_paragraphs: share of the characters in paragraphs that came before.
        most_of_one: n -> share of the characters that the most frequent n-gram may take.
        most_repeated: n -> share of the characters in n-grams that came before.
    """

    def __init__(
        self,
        words: Splitter | None = None,
        most_repeated_lines: float = 0.3,
        most_repeated_paragraphs: float = 0.3,
        most_characters_in_lines: float = 0.2,
        most_characters_in_paragraphs: float = 0.2,
        most_of_one: Mapping[int, float] = MOST_OF_ONE_N_GRAM,
        most_repeated: Mapping[int, float] = MOST_REPEATED_N_GRAMS,
    ) -> None:
        self.words = words or FineWebWords()
        self.lines = (most_repeated_lines, most_characters_in_lines)
        self.paragraphs = (most_repeated_paragraphs, most_characters_in_paragraphs)
        self.most_of_one, self.most_repeated = dict(most_of_one), dict(most_repeated)

    def reject(self, document: Document) -> str | None:
        """What is repeated, or None."""
        text = document.text
        if not text:
            return "no text"
        if _repeats(PARAGRAPHS.split(text.strip()), len(text), *self.paragraphs):
            return "repeated paragraphs"
        if _repeats(LINES.split(text), len(text), *self.lines):
            return "repeated lines"
        words = words_of(text, self.words)
        for n, most in self.most_of_one.items():
            if _top_characters(words, n) / len(text) > most:
                return f"one run of {n} words makes up much of it"
        for n, characters in repeated_characters(words, self.most_repeated):
            if characters / len(text) > self.most_repeated[n]:
                return f"repeated runs of {n} words"
        return None


def _repeats(pieces: Sequence[str], n_characters: int, most: float, most_characters: float) -> bool:
    """Whether too many of the pieces came before, by their number or by their length."""
    different = set(pieces)
    if (len(pieces) - len(different)) / len(pieces) > most:
        return True
    return (sum(map(len, pieces)) - sum(map(len, different))) / n_characters > most_characters


def _top_characters(words: list[str], n: int) -> int:
    """Characters in all copies of the most frequent n-gram, spaces between its words included."""
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    if not counts:
        return 0
    times = max(counts.values())
    top = next(gram for gram, n_times in counts.items() if n_times == times)  # of several, the one that comes first
    return (sum(map(len, top)) + n - 1) * times


def repeated_characters(words: list[str], sizes: Iterable[int]) -> Iterable[tuple[int, int]]:
    """(n, characters in n-grams that came before) for each n; a run found is passed over whole.

    Only where the shortest n-gram occurs more than once can a longer one: the others need not be looked at.
    """
    sizes = sorted(sizes)
    if not sizes:
        return
    shortest = list(zip(*(words[i:] for i in range(sizes[0])), strict=False))
    counts = Counter(shortest)
    places = [i for i, gram in enumerate(shortest) if counts[gram] > 1] if len(counts) < len(shortest) else []
    upto = list(accumulate(map(len, words), initial=0)) if places else [0]
    for n in sizes:
        seen: set[tuple[str, ...]] = set()
        characters = free = 0  # places before `free` belong to a run that was counted
        for i in places:
            if i < free or i + n > len(words):
                continue
            gram = tuple(words[i : i + n])
            if gram in seen:
                characters += upto[i + n] - upto[i]
                free = i + n
            else:
                seen.add(gram)
        yield n, characters
