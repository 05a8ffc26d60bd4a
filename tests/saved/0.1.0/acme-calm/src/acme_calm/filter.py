"""Texts that shout."""

from __future__ import annotations

from typing import final

from phi3kit.families import Filter
from phi3kit.records import Document


@final
class AcmeCalmFilter(Filter):
    """Rejects a document whose letters are mostly capitals.

    Args:
        most: the largest share of capitals among its letters that a document may have.
    """

    def __init__(self, most: float = 0.5) -> None:
        self.most = most

    def reject(self, document: Document) -> str | None:
        letters = [character for character in document.text if character.isalpha()]
        capitals = sum(letter.isupper() for letter in letters)
        return "mostly capitals" if capitals > self.most * len(letters) else None
