"""What stands on an embedding: a regression or a forest. Fitted by scikit-learn, kept and computed as plain arrays.

Shapes: N texts, D width of the embedding, C nodes of all trees, M trees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from phi3kit.corpus.scorers.two_sides import logistic

if TYPE_CHECKING:
    import numpy as np

HeadName = Literal["logistic", "ridge", "forest"]
Arrays = dict[str, "np.ndarray"]


class Head(ABC):
    """Embeddings to scores. Its arrays are all it knows after `fit`."""

    probability: bool

    @staticmethod
    @abstractmethod
    def fit(x_ND: np.ndarray, label_N: np.ndarray, positive: float) -> Arrays:
        """The arrays that `score` needs. `label_N` are 0 to 5."""

    @staticmethod
    @abstractmethod
    def score(arrays: Arrays, x_ND: np.ndarray) -> np.ndarray:
        """Scores, [N]. Sums run along D, so a text's score does not depend on its neighbours."""


class Logistic(Head):
    """The probability of a label of `positive` or more, by logistic regression on standardised embeddings."""

    probability = True

    @staticmethod
    def fit(x_ND: np.ndarray, label_N: np.ndarray, positive: float) -> Arrays:
        """Regularised (C = 0.1): embeddings are wide and labels few."""
        from sklearn.linear_model import LogisticRegression

        mean_D, scale_D = _standard(x_ND)
        model = LogisticRegression(C=0.1, max_iter=2000).fit((x_ND - mean_D) / scale_D, label_N >= positive)
        return {"mean": mean_D, "scale": scale_D, "weights": model.coef_[0], "bias": model.intercept_}

    @staticmethod
    def score(arrays: Arrays, x_ND: np.ndarray) -> np.ndarray:
        """The logistic function of the weighted sum."""
        import numpy as np

        return np.array([logistic(total) for total in _linear(arrays, x_ND).tolist()])


class Ridge(Head):
    """The label itself, 0 to 5, by ridge regression (FineWeb-Edu regresses on labels, arXiv 2406.17557, section 4)."""

    probability = False

    @staticmethod
    def fit(x_ND: np.ndarray, label_N: np.ndarray, positive: float) -> Arrays:
        """The strength of the penalty is chosen by leaving one out."""
        from sklearn.linear_model import RidgeCV

        mean_D, scale_D = _standard(x_ND)
        model = RidgeCV(alphas=[1.0, 10.0, 100.0, 1000.0, 10000.0]).fit((x_ND - mean_D) / scale_D, label_N)
        return {"mean": mean_D, "scale": scale_D, "weights": model.coef_, "bias": model.intercept_.reshape(1)}

    @staticmethod
    def score(arrays: Arrays, x_ND: np.ndarray) -> np.ndarray:
        """The weighted sum, kept within 0 and 5."""
        import numpy as np

        return np.clip(_linear(arrays, x_ND), 0.0, 5.0)


class Forest(Head):
    """The share of positive labels in the leaves of a random forest (phi-1, arXiv 2306.11644, section 2.1)."""

    probability = True

    @staticmethod
    def fit(x_ND: np.ndarray, label_N: np.ndarray, positive: float) -> Arrays:
        """200 trees, the same ones for the same data; all trees' nodes one after the other."""
        import numpy as np
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(200, min_samples_leaf=2, random_state=0).fit(x_ND, label_N >= positive)
        trees = [each.tree_ for each in model.estimators_]
        start_M = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
        children = {
            side: np.concatenate(
                [np.where(getattr(t, name) < 0, -1, getattr(t, name) + s) for t, s in zip(trees, start_M, strict=True)]
            )
            for side, name in (("left", "children_left"), ("right", "children_right"))
        }
        return {
            **children,
            "start": start_M,
            "feature": np.concatenate([tree.feature for tree in trees]),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "share": np.concatenate([tree.value[:, 0, 1] / tree.value[:, 0].sum(1) for tree in trees]),
        }

    @staticmethod
    def score(arrays: Arrays, x_ND: np.ndarray) -> np.ndarray:
        """Walk all trees at once, from their roots until every text is in a leaf of each."""
        import numpy as np

        node_NM = np.tile(arrays["start"], (len(x_ND), 1))
        rows_N1 = np.arange(len(x_ND))[:, None]
        while (inner_NM := arrays["left"][node_NM] >= 0).any():
            value_NM = x_ND[rows_N1, np.maximum(arrays["feature"][node_NM], 0)]
            goes_left_NM = value_NM <= arrays["threshold"][node_NM]
            child_NM = np.where(goes_left_NM, arrays["left"][node_NM], arrays["right"][node_NM])
            node_NM = np.where(inner_NM, child_NM, node_NM)
        return arrays["share"][node_NM].mean(axis=1)


HEADS: dict[str, type[Head]] = {"logistic": Logistic, "ridge": Ridge, "forest": Forest}


def _standard(x_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean_D, scale_D = x_ND.mean(axis=0), x_ND.std(axis=0)
    scale_D[scale_D < 1e-6] = 1.0  # a feature that is always the same
    return mean_D, scale_D


def _linear(arrays: Arrays, x_ND: np.ndarray) -> np.ndarray:
    z_ND = (x_ND - arrays["mean"]) / arrays["scale"]
    return (z_ND * arrays["weights"]).sum(axis=1) + arrays["bias"][0]
