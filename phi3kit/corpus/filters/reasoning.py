"""Text that explains: the stricter choice of the second phase of pretraining."""

from __future__ import annotations

from typing import final

from phi3kit.corpus.scorers.reasoning_density import count_connectives
from phi3kit.corpus.spaceless import spaced_words
from phi3kit.families import Filter
from phi3kit.records import Document


@final
class Reasoning(Filter):
    """Keeps documents dense in the words of explanation and condition (those that `ReasoningDensity` counts too).

    The report's second phase keeps the web pages that teach "logical reasoning" (arXiv 2404.14219, section 2); its
    filter is a classifier and unpublished.

    Args:
        least_signs: such words per hundred; prose has about 2, documentation about 4.
        shortest: fewer words than this are too few to tell.
    """

    def __init__(self, least_signs: float = 4.0, shortest: int = 50) -> None:
        self.least_signs, self.shortest = least_signs, shortest

    def reject(self, document: Document) -> str | None:
        """Why it teaches too little, or None."""
        n_words = len(spaced_words(document.text))
        if n_words < self.shortest:
            return f"fewer than {self.shortest} words"
        return "explains too little" if 100 * count_connectives(document.text) < self.least_signs * n_words else None
