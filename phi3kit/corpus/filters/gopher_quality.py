"""Gopher's quality rules: is this running text, of a sensible length, made of words?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from phi3kit.corpus.spaceless import SPACELESS, is_spaced
from phi3kit.corpus.words import FineWebWords, punctuation, words_of
from phi3kit.families import Filter, Splitter
from phi3kit.records import Document

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher, section A.1.1


@final
class GopherQuality(Filter):
    """Gopher's quality rules (arXiv 2112.11446, section A.1.1), with FineWeb's reading of them.

    Verdicts equal datatrove's GopherQualityFilter with the same words.

    Args:
        words: what a word is; null: FineWebWords, where punctuation is a word.
        shortest: in words that are not only punctuation.
        longest: in words that are not only punctuation.
        shortest_mean: least mean length of these words, in characters.
        longest_mean: greatest mean length of these words.
        most_symbols: hash signs, or ellipses, per word.
        most_bullets: share of lines that begin with a bullet.
        most_ellipses: share of lines that end in an ellipsis.
        least_words_with_letters: share of the words that hold a letter.
        least_stop_words: how many different words of `stop_words` must occur.
        stop_words: words that every text of the language has; Gopher's English ones.
    """

    def __init__(
        self,
        words: Splitter | None = None,
        shortest: int = 50,
        longest: int = 100_000,
        shortest_mean: float = 3,
        longest_mean: float = 10,
        most_symbols: float = 0.1,
        most_bullets: float = 0.9,
        most_ellipses: float = 0.3,
        least_words_with_letters: float = 0.8,
        least_stop_words: int = 2,
        stop_words: Sequence[str] = STOP_WORDS,
    ) -> None:
        self.words = words or FineWebWords()
        self.shortest, self.longest = shortest, longest
        self.shortest_mean, self.longest_mean = shortest_mean, longest_mean
        self.most_symbols, self.most_bullets, self.most_ellipses = most_symbols, most_bullets, most_ellipses
        self.least_words_with_letters = least_words_with_letters
        self.least_stop_words, self.stop_words = least_stop_words, frozenset(stop_words)

    def reject(self, document: Document) -> str | None:
        """The first rule it breaks, or None."""
        words = words_of(document.text, self.words)
        others = [word for word in words if not word.isalpha()]  # few: the rules about letters look only at these
        marks, _ = punctuation()
        only_marks = [word for word in others if not word.strip(marks)]
        return (
            self._length(words, only_marks, is_spaced(document.text))
            or self._symbols(document.text, len(words))
            or self._lines(document.text.splitlines())
            or self._language(words, others)
        )

    def _length(self, words: list[str], only_marks: list[str], spaced: bool) -> str | None:
        n = len(words) - len(only_marks)
        if n < max(self.shortest, 1):
            return f"fewer than {self.shortest} words"
        if n > self.longest:
            return f"more than {self.longest} words"
        if not spaced and 2 * sum(bool(SPACELESS.match(word)) for word in words) > n:
            return None  # how long a piece of a word is says nothing
        mean = (sum(map(len, words)) - sum(map(len, only_marks))) / n
        if mean < self.shortest_mean:
            return "short words"
        return "long words" if mean > self.longest_mean else None

    def _symbols(self, text: str, n_words: int) -> str | None:
        if text.count("#") / n_words > self.most_symbols:
            return "too many #"
        ellipses = text.count("...") + text.count("…")
        return "too many ellipses" if ellipses / n_words > self.most_symbols else None

    def _lines(self, lines: list[str]) -> str | None:
        if sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines) > self.most_bullets:
            return "lines with bullets"
        if sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) > self.most_ellipses:
            return "lines end in ellipses"
        return None

    def _language(self, words: list[str], others: list[str]) -> str | None:
        without = sum(not any(map(str.isalpha, word)) for word in others)
        if (len(words) - without) / len(words) < self.least_words_with_letters:
            return "too few words with letters"
        if len(self.stop_words.intersection(words)) < self.least_stop_words:
            return "too few stop words"
        return None
