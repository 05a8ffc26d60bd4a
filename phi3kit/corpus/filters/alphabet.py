"""Tables, numbers, menus: text with few words in it."""

from __future__ import annotations

from typing import final

from phi3kit.corpus.spaceless import spaced_words
from phi3kit.families import Filter
from phi3kit.records import Document


@final
class Alphabet(Filter):
    """Keeps documents whose words, between white space, have letters (Gopher, arXiv 2112.11446, section A.1.1).

    `GopherQuality` has this rule and the others of the section, for web pages.

    Args:
        least_words_with_letters: share of the words that hold at least one letter; Gopher's 0.8 is for prose,
            source code needs less.
        most_symbols: hash signs and ellipses per word.
    """

    def __init__(self, least_words_with_letters: float = 0.8, most_symbols: float = 0.1) -> None:
        self.least_words_with_letters, self.most_symbols = least_words_with_letters, most_symbols

    def reject(self, document: Document) -> str | None:
        """Why it is no text, or None."""
        words = spaced_words(document.text)
        if not words:
            return "no words"
        if sum(any(map(str.isalpha, word)) for word in words) < self.least_words_with_letters * len(words):
            return "too few words with letters"
        n_symbols = document.text.count("#") + document.text.count("…") + document.text.count("...")
        if n_symbols > self.most_symbols * len(words):
            return "too many # and ..."
        return None
