"""A limit on a score: safety, or anything else that a `Scorer` has written into the metadata."""

from __future__ import annotations

from typing import final

from phi3kit.errors import UserError
from phi3kit.families import Filter
from phi3kit.records import Document


@final
class ScoreLimit(Filter):
    """Keeps documents whose score, ``metadata["scores"][aspect]``, lies within limits.

    Args:
        aspect: of the score, e.g. toxicity.
        most: greatest score that stays; null: no limit.
        least: least score that stays; null: no limit.
    """

    def __init__(self, aspect: str = "toxicity", most: float | None = 0.5, least: float | None = None) -> None:
        if most is None and least is None:
            raise UserError(f"ScoreLimit of {aspect} has neither `most` nor `least`; give one")
        self.aspect, self.most, self.least = aspect, most, least

    def reject(self, document: Document) -> str | None:
        """Which limit its score breaks, or None; a document without the score is rejected, and says so."""
        score = document.metadata.get("scores", {}).get(self.aspect)
        if score is None:
            return f"no score for {self.aspect}"
        if self.most is not None and score > self.most:
            return f"{self.aspect} above {self.most:g}"
        if self.least is not None and score < self.least:
            return f"{self.aspect} below {self.least:g}"
        return None
