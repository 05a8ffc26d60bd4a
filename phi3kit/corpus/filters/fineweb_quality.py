"""FineWeb's own rules: lists, menus and pages of fragments that the older rules let through."""

from __future__ import annotations

from typing import final

from phi3kit.corpus.words import FineWebWords, punctuation, words_of
from phi3kit.families import Filter, Splitter
from phi3kit.records import Document


@final
class FineWebQuality(Filter):
    """FineWeb's quality rules (arXiv 2406.17557, section 3.6).

    Verdicts equal datatrove's FineWebQualityFilter with the same words.

    Args:
        words: what a word is; null: FineWebWords, where punctuation is a word.
        least_ends: share of the lines that end with terminal punctuation.
        most_short_lines: share of the lines that are short.
        short_line: a short line, in characters.
        most_repeated: share of the characters in lines that came before.
        most_new_lines: line breaks per word.
    """

    def __init__(
        self,
        words: Splitter | None = None,
        least_ends: float = 0.12,
        most_short_lines: float = 0.67,
        short_line: int = 30,
        most_repeated: float = 0.01,
        most_new_lines: float = 0.3,
    ) -> None:
        self.words = words or FineWebWords()
        self.least_ends, self.most_short_lines, self.short_line = least_ends, most_short_lines, short_line
        self.most_repeated, self.most_new_lines = most_repeated, most_new_lines

    def reject(self, document: Document) -> str | None:
        """The first rule it breaks, or None."""
        lines = [line for line in document.text.split("\n") if line.strip()]
        if not lines:
            return "no text"
        _, ends = punctuation()
        if sum(line[-1] in ends for line in lines) / len(lines) < self.least_ends:
            return "lines without an end"
        if sum(len(line) <= self.short_line for line in lines) / len(lines) > self.most_short_lines:
            return "short lines"
        n_breaks = document.text.count("\n")
        repeated = sum(map(len, lines)) - sum(map(len, set(lines)))
        if repeated / (len(document.text) - n_breaks) > self.most_repeated:
            return "repeated lines"
        if n_breaks / len(words_of(document.text, self.words)) > self.most_new_lines:
            return "a list"
        return None
