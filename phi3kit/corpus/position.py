"""Where a piece of a question stands in a page: alone between two breaks, or cut off amid a word."""

from __future__ import annotations

import re
from functools import cache, cached_property

from phi3kit.corpus.evidence import NO_CONTENT, letters
from phi3kit.corpus.tags import without_tags

BREAK = re.compile(r"\n|[.!?…:]\W*\s")  # the end of a line or of a sentence
SPACE = re.compile(r"\s")
# what a word of a question may have more than the page's without being cut there: "reflect", "reflects"
ENDINGS = frozenset(("s", "es", "d", "ed", "r", "er", "rs", "ers", "n", "en", "ing", "ings", "ly", "y", "al"))


class Page:
    """A text's letters, and what stands between them.

    Args:
        text: of a page, or of a question.
    """

    def __init__(self, text: str) -> None:
        self.text, self.bare = text, without_tags(text)
        self.letters = letters(self.bare)

    @cached_property
    def places(self) -> list[int] | None:
        """Where in the text each letter is; None where compatibility forms hide it."""
        places = [i for i, character in enumerate(self.bare) for _ in range(_n_letters(character))]
        return places if len(places) == len(self.letters) else None

    def gap(self, at: int) -> str:
        """What stands before a letter, "" inside a word; at both ends of the text, a line break."""
        if not 0 < at < len(self.letters):
            return "\n"
        return self.bare[self.places[at - 1] + 1 : self.places[at]] if self.places else ""

    def part(self, at: int, length: int) -> str:
        """So many letters from one on, as they stand in the text."""
        if not self.places:
            return self.letters[at : at + length]
        return self.text[self.places[at] : self.places[at + length - 1] + 1]


@cache
def _n_letters(character: str) -> int:
    return len(letters(character))


def stands_out(page: Page, at: int, question: Page, length: int) -> bool:
    """Whether the first letters of a question, at a place in a page, are there alone, or cut off amid a word."""
    after = page.gap(at + length)
    if not SPACE.search(after):
        return False
    alone = BREAK.search(page.gap(at)) and BREAK.search(after)
    return bool(alone) or _cut(question, length)


def _cut(question: Page, length: int) -> bool:
    """Whether a question's first letters end amid a word, with a stub that is no other form of it."""
    if not 0 < length < len(question.letters) or question.gap(length) or not question.places:
        return False
    start, end = length - 1, length + 1
    while start and not question.gap(start):
        start -= 1
    while not question.gap(end):
        end += 1
    return question.letters[start:length] not in NO_CONTENT and question.letters[length:end] not in ENDINGS
