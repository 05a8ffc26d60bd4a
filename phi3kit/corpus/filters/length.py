"""Too short to teach anything, or too long to be one text."""

from __future__ import annotations

from typing import final

from phi3kit.corpus.spaceless import spaced_words
from phi3kit.families import Filter
from phi3kit.records import Document


@final
class Length(Filter):
    """Keeps documents of a number of words (Gopher, arXiv 2112.11446, table A1: 50 to 100,000).

    Args:
        shortest: in words between white space, or pieces of scripts that have none (see `spaceless`).
        longest: in the same words.
    """

    def __init__(self, shortest: int = 50, longest: int = 100_000) -> None:
        self.shortest, self.longest = shortest, longest

    def reject(self, document: Document) -> str | None:
        """Why its length is wrong, or None."""
        n_words = len(spaced_words(document.text))
        if n_words < self.shortest:
            return f"fewer than {self.shortest} words"
        if n_words > self.longest:
            return f"more than {self.longest} words"
        return None
