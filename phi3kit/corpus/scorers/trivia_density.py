"""How much of a text a small model need not remember: dates, results, names. Needs no labels.

The report drops such pages for small models: "the result of a game in premier league in a particular day" is good
data for a frontier model, but is removed "to leave more model capacity for reasoning" (arXiv 2404.14219, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from phi3kit.corpus.scorers.density import density, matches, rules_version
from phi3kit.corpus.scorers.state import read_options, write_state
from phi3kit.families import Scorer

# Each begins with what is rare, for which the search is fast, and looks back afterwards.
MONTH = r"[JFMASOND](?<!\w.)(?:an|eb|ar|pr|ay|un|ul|ug|ep|ct|ov|ec)(?:[a-z]{1,6})?\.?"
SIGNS = {
    "dates": matches(
        2.0,
        rf"{MONTH}\s+\d{{1,4}}\b|[0-9](?<!\w.)[0-9]?\s{MONTH}(?=\W)"
        r"|[0-9](?<!\w.)\d{0,3}[/.-]\d{1,2}[/.-]\d{1,4}\b",
    ),
    "years": matches(1.0, r"1(?<!\w.)[5-9]\d\ds?\b|2(?<!\w.)0\d\ds?\b"),
    "results": matches(
        2.0,
        r"[0-9](?<![\w.,/–-].)\d{0,2}\s?[–-]\s?\d{1,3}(?![\w/–-]|\.\d|\s?[=*<])|[0-9](?<!\w.)\d?:\d{2}\b",
        holds="–-:",
    ),
    "names": matches(0.5, r"[A-Z](?<=[a-z,;]\s.)[a-zà-ÿ]{2,}(?:\s[A-Z][a-zà-ÿ]+)*"),
}


@final
class TriviaDensity(Scorer):
    """Dates, years, results and names per thousand characters: a textbook has about 1, Wikipedia 6.

    Args:
        aspect: the name of its score.
    """

    learns = False

    def __init__(self, aspect: str = "trivia") -> None:
        self._aspect = aspect

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """Hash of the rules."""
        return rules_version("TriviaDensity", self._aspect, SIGNS)

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        """Nothing to learn."""

    def score(self, texts: Sequence[str]) -> list[float]:
        """A density per text; 0 for an empty one."""
        return [density(text, SIGNS) for text in texts]

    def save(self, folder: Path) -> None:
        """Write the options."""
        write_state(folder, {"aspect": self._aspect})

    @classmethod
    def load(cls, folder: Path) -> TriviaDensity:
        """Read what `save` wrote."""
        return cls(**read_options(folder))
