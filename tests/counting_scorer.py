"""A scorer that counts a word; a module of its own, so that workers can import it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phi3kit.families import Scorer


class CountingScorer(Scorer):
    """How often a word comes."""

    learns = False

    def __init__(self, word: str) -> None:
        self.word = word

    @property
    def aspect(self) -> str:
        return self.word

    @property
    def version(self) -> str:
        return f"counts {self.word}"

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None: ...

    def score(self, texts: Sequence[str]) -> list[float]:
        return [float(text.split().count(self.word)) for text in texts]

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> CountingScorer:
        return cls("lamp")
