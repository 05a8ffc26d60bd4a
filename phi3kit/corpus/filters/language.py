"""Which language a document is in, by py3langid: its model comes with the package, nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, final

from phi3kit.errors import UserError
from phi3kit.families import Filter
from phi3kit.records import Document

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


@final
class Language(Filter):
    """Keeps documents in some languages.

    Args:
        allowed: codes of ISO 639-1, such as en.
        least_confidence: the languages' probabilities must add up to this (FineWeb: 0.65, with another model).
        characters: how much of the document's beginning is looked at.
    """

    def __init__(
        self, allowed: Sequence[str] = ("en",), least_confidence: float = 0.65, characters: int = 1000
    ) -> None:
        unknown = sorted(set(allowed) - set(_identifier().labels))
        if unknown:
            raise UserError(
                f"no language has the code {unknown[0]!r}; py3langid knows {', '.join(sorted(_identifier().labels))}"
            )
        self.allowed, self.least_confidence, self.characters = frozenset(allowed), least_confidence, characters

    def reject(self, document: Document) -> str | None:
        """The language it is in, or None."""
        ranked = _identifier().rank(document.text[: self.characters])
        if sum(probability for language, probability in ranked if language in self.allowed) >= self.least_confidence:
            return None
        best, probability = ranked[0]
        sure = best not in self.allowed and probability >= self.least_confidence
        return f"language {best}" if sure else "language uncertain"


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
