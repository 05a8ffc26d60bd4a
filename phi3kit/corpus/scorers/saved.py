"""A trained scorer, named in a recipe by its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from phi3kit.corpus.scorers.folder import load_scorer, read_about, save_scorer
from phi3kit.errors import UserError
from phi3kit.families import Scorer


@final
class SavedScorer(Scorer):
    """A scorer that `phi3kit score fit` trained, of whatever class.

    Args:
        path: its folder.
    """

    learns = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.scorer = load_scorer(Path(path))
        self.probability, self.positive = self.scorer.probability, self.scorer.positive

    @property
    def aspect(self) -> str:
        """The aspect it was trained on."""
        return self.scorer.aspect

    @property
    def version(self) -> str:
        """The version of the scorer in the folder."""
        return self.scorer.version

    @property
    def threshold(self) -> float | None:
        """The threshold its training report used, where there is one."""
        return read_about(Path(self.path)).get("threshold")

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        """Nothing to learn: it is trained. Name a fresh scorer to train another."""
        raise UserError(f"the scorer in {self.path} is trained already; name a class to train, e.g. HashedNGrams")

    def score(self, texts: Sequence[str]) -> list[float]:
        """The scores of the scorer in the folder."""
        return self.scorer.score(texts)

    def save(self, folder: Path) -> None:
        """Write a copy of the scorer."""
        save_scorer(self.scorer, folder)

    @classmethod
    def load(cls, folder: Path) -> SavedScorer:
        """Read what `save` wrote."""
        return cls(str(folder))
