"""Text that says the same again and again, whatever it is made of: the light cousin of `GopherRepetition`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import final

from phi3kit.corpus.filters.gopher_repetition import MOST_OF_ONE_N_GRAM
from phi3kit.corpus.spaceless import spaced_words
from phi3kit.families import Filter
from phi3kit.records import Document


@final
class Repetition(Filter):
    """Keeps documents that do not repeat themselves (after Gopher, arXiv 2112.11446, table A1).

    Words are those between white space (or pieces of scripts that have none), lines count without their indentation:
    for source code, books and data alike. `GopherRepetition` has every rule of the table, for web pages.

    Args:
        most_repeated_lines: share of the characters in lines that came before (Gopher: 0.2).
        most_repeated_runs: share of the words in runs of ten words that came before (Gopher, by characters: 0.1).
        most_of_one: n -> share of the characters that the most frequent run of n words may take.
    """

    def __init__(
        self,
        most_repeated_lines: float = 0.2,
        most_repeated_runs: float = 0.1,
        most_of_one: Mapping[int, float] = MOST_OF_ONE_N_GRAM,
    ) -> None:
        self.most_repeated_lines, self.most_repeated_runs = most_repeated_lines, most_repeated_runs
        self.most_of_one = dict(most_of_one)

    def reject(self, document: Document) -> str | None:
        """What is repeated, or None."""
        lines = [line.strip() for line in document.text.splitlines() if line.strip()]
        n_characters = sum(map(len, lines))
        repeated = n_characters - sum(map(len, set(lines)))
        if repeated > self.most_repeated_lines * n_characters:
            return "repeated lines"
        words = spaced_words(document.text)
        for n, most in self.most_of_one.items():
            top = Counter(zip(*(words[i:] for i in range(n)), strict=False)).most_common(1)
            if top and top[0][1] > 1 and _characters(top[0]) > most * n_characters:
                return f"one run of {n} words makes up much of it"
        if _repeated_runs(words) > self.most_repeated_runs * len(words):
            return "repeated runs of ten words"
        return None


def _characters(counted: tuple[tuple[str, ...], int]) -> int:
    n_gram, n = counted
    return n * sum(map(len, n_gram))


def _repeated_runs(words: list[str], length: int = 10) -> int:
    """Words inside runs of `length` words that came before, each word counted once."""
    seen: set[tuple[str, ...]] = set()
    repeated = end = 0  # words up to `end` are counted
    for i, run in enumerate(zip(*(words[j:] for j in range(length)), strict=False)):
        if run in seen:
            repeated += i + length - max(i, end)
            end = i + length
        seen.add(run)
    return repeated
