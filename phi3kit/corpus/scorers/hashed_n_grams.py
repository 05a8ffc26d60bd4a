"""Words and pairs of words, hashed, and a logistic regression: the default, thousands of documents a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from phi3kit.corpus.scorers.state import content_version, read_arrays, read_options, write_state
from phi3kit.corpus.scorers.two_sides import logistic, sides, unfitted
from phi3kit.families import Scorer

if TYPE_CHECKING:
    import numpy as np


@final
class HashedNGrams(Scorer):
    """The probability that a text has the aspect, by its words and pairs of words.

    Args:
        aspect: what the labels are about.
        positive: labels from this on have the aspect.
        regularisation: how strongly weights are held near zero; fewer labels need more.
    """

    probability = True

    def __init__(self, aspect: str = "educational", positive: float = 3.0, regularisation: float = 0.03) -> None:
        self._aspect, self.positive, self.regularisation = aspect, positive, regularisation
        self._weight_F: np.ndarray | None = None  # float64, but every number is a float32: what is saved
        self._bias = 0.0
        self._version = ""

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """Hash of options and weights."""
        if self._weight_F is None:
            raise unfitted(self)
        return self._version

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        """Fit the regression. Raises `UserError` where all labels are on one side of `positive`."""
        import numpy as np
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression

        from phi3kit.corpus.scorers.features import WIDTH, entries

        wanted_N = sides(texts, labels, self.positive)
        found = entries(texts)
        present_P, place_E = np.unique(found.column_E, return_inverse=True)  # the weights of all others stay 0
        matrix_NP = csr_matrix((found.value_E, (found.row_E, place_E)), shape=(len(texts), max(len(present_P), 1)))
        model = LogisticRegression(C=1 / self.regularisation, max_iter=2000).fit(matrix_NP, wanted_N)
        weight_F = np.zeros(WIDTH, np.float32)
        weight_F[present_P] = model.coef_[0][: len(present_P)]
        self._set(weight_F, float(np.float32(model.intercept_[0])))

    def score(self, texts: Sequence[str]) -> list[float]:
        """A probability per text; 0 for a text without words."""
        from phi3kit.corpus.scorers.features import weigh, words

        if self._weight_F is None:
            raise unfitted(self)
        return [
            logistic(total + self._bias) if total or words(text) else 0.0
            for text, total in zip(texts, weigh(texts, self._weight_F).tolist(), strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write options and weights."""
        if self._weight_F is None:
            raise unfitted(self)
        write_state(folder, self._options(), self._arrays())

    @classmethod
    def load(cls, folder: Path) -> HashedNGrams:
        """Read what `save` wrote."""
        options = read_options(folder)
        bias = options.pop("bias")
        scorer = cls(**options)
        scorer._set(read_arrays(folder)["weights"], bias)
        return scorer

    def _set(self, weight_F: np.ndarray, bias: float) -> None:
        from phi3kit.corpus.scorers.features import RULES

        self._weight_F, self._bias = weight_F.astype("float64"), bias
        self._version = content_version("HashedNGrams", self._options() | {"rules": RULES}, self._arrays())

    def _options(self) -> dict[str, Any]:
        return {
            "aspect": self._aspect,
            "positive": self.positive,
            "regularisation": self.regularisation,
            "bias": self._bias,
        }

    def _arrays(self) -> dict[str, np.ndarray]:
        assert self._weight_F is not None
        return {"weights": self._weight_F.astype("float32")}
