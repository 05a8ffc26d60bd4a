"""How good scores are, against labels on two sides: pure functions of numbers. N documents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def ranks(values: ArrayLike) -> np.ndarray:
    """Ranks from 1, ties sharing their mean rank, [N]."""
    _, place_N, count = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place_N]


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive document scores above a negative one, ties counting half (Mann-Whitney U / (n+ n-))."""
    positive_N = np.asarray(positive, dtype=bool)
    n = int(positive_N.sum())
    assert 0 < n < len(positive_N), "an AUC needs documents of both sides"
    return float((ranks(scores)[positive_N].sum() - n * (n + 1) / 2) / (n * (len(positive_N) - n)))


def auc_at_equal_length(scores: ArrayLike, positive: ArrayLike, lengths: ArrayLike, ratio: float = 1.5) -> float | None:
    """AUC among documents of about the same length: what is left of it when length alone explains the labels.

    Lengths are grouped by powers of `ratio`, and each group counts by its pairs; None where no group has both sides.
    """
    scores_N, positive_N = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    group_N = np.floor(np.log(np.maximum(np.asarray(lengths, dtype=np.float64), 1)) / np.log(ratio))
    pairs = won = 0.0
    for group in np.unique(group_N):
        inside = group_N == group
        n, m = int(positive_N[inside].sum()), int((~positive_N[inside]).sum())
        if n and m:
            pairs += n * m
            won += n * m * auc(scores_N[inside], positive_N[inside])
    return won / pairs if pairs else None


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation; 0 where one of them is always the same."""
    a_N, b_N = ranks(a), ranks(b)
    a_N, b_N = a_N - a_N.mean(), b_N - b_N.mean()
    scale = float(np.sqrt((a_N * a_N).sum() * (b_N * b_N).sum()))
    return float((a_N * b_N).sum()) / scale if scale else 0.0


def at(threshold: float, scores: ArrayLike, positive: ArrayLike) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of keeping scores from the threshold on."""
    kept_N, positive_N = np.asarray(scores) >= threshold, np.asarray(positive, dtype=bool)
    right = int((kept_N & positive_N).sum())
    n_kept, n_positive = int(kept_N.sum()), int(positive_N.sum())
    return {
        "accuracy": float((kept_N == positive_N).mean()),
        "precision": right / n_kept if n_kept else 0.0,
        "recall": right / n_positive if n_positive else 0.0,
        "f1": 2 * right / (n_kept + n_positive) if n_kept + n_positive else 0.0,
    }


def best_threshold(scores: ArrayLike, positive: ArrayLike) -> float:
    """The threshold of the best F1: halfway between the lowest score kept and the highest left out."""
    scores_N, positive_N, ends = _descending(scores, positive)
    right = np.cumsum(positive_N)[ends]
    best = ends[int(np.argmax(2 * right / (ends + 1 + positive_N.sum())))]
    below = scores_N[best + 1] if best + 1 < len(scores_N) else scores_N[best]
    return float((scores_N[best] + below) / 2)


def brier(probabilities: ArrayLike, positive: ArrayLike) -> float:
    """Mean squared error of probabilities; always saying the share of positives gives share * (1 - share)."""
    return float(((np.asarray(probabilities) - np.asarray(positive, dtype=np.float64)) ** 2).mean())


def reliability(scores: ArrayLike, positive: ArrayLike, bins: int = 10) -> list[dict[str, Any]]:
    """Mean score and share of positives in groups of equal size, by score; fewer groups where documents are few."""
    order = np.argsort(np.asarray(scores), kind="stable")
    scores_N, positive_N = np.asarray(scores)[order], np.asarray(positive, dtype=np.float64)[order]
    groups = np.array_split(np.arange(len(order)), max(1, min(bins, len(order) // 5)))
    return [
        {
            "from": float(scores_N[g[0]]),
            "to": float(scores_N[g[-1]]),
            "documents": len(g),
            "mean_score": float(scores_N[g].mean()),
            "positive_share": float(positive_N[g].mean()),
        }
        for g in groups
    ]


def roc(scores: ArrayLike, positive: ArrayLike, points: int = 60) -> list[tuple[float, float]]:
    """(share of negatives kept, share of positives kept) from the strictest threshold to none, thinned for a plot."""
    _, positive_N, ends = _descending(scores, positive)
    true, false = np.cumsum(positive_N)[ends] / positive_N.sum(), np.cumsum(~positive_N)[ends] / (~positive_N).sum()
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(points, len(ends))).astype(int))
    return [(0.0, 0.0), *((float(false[i]), float(true[i])) for i in chosen)]


def _descending(scores: ArrayLike, positive: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scores from the highest, their sides, where runs of equal scores end: a threshold cannot split them)."""
    scores_N = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores_N, kind="stable")
    scores_N, positive_N = scores_N[order], np.asarray(positive, dtype=bool)[order]
    return scores_N, positive_N, np.flatnonzero(np.append(scores_N[1:] != scores_N[:-1], True))


def folds(positive: ArrayLike, n_folds: int, seed: int) -> np.ndarray:
    """Which fold each document is held out in, [N]: shuffled, and the same share of positives in each."""
    positive_N = np.asarray(positive, dtype=bool)
    fold_N = np.empty(len(positive_N), dtype=np.int64)
    shuffle = np.random.default_rng(seed)
    dealt = 0
    for side in (True, False):
        members = shuffle.permutation(np.flatnonzero(positive_N == side))
        fold_N[members] = (np.arange(len(members)) + dealt) % n_folds
        dealt += len(members)
    return fold_N
