"""The numbers of a scorer's report, against scikit-learn's and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from phi3kit.corpus.scorers import quality


@pytest.fixture(params=[0, 1, 2])
def numbers(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and sides that they tell apart a little."""
    draw = np.random.default_rng(request.param)
    wanted_N = draw.random(200) < 0.4
    return np.round(np.clip(draw.normal(0.4 + 0.2 * wanted_N, 0.2), 0, 1), 2), wanted_N


def test_areas_and_shares_equal_scikit_learns(numbers: tuple[np.ndarray, np.ndarray]) -> None:
    scores_N, wanted_N = numbers
    assert quality.auc(scores_N, wanted_N) == pytest.approx(metrics.roc_auc_score(wanted_N, scores_N), abs=1e-12)
    assert quality.brier(scores_N, wanted_N) == pytest.approx(metrics.brier_score_loss(wanted_N, scores_N))
    found = quality.at(0.5, scores_N, wanted_N)
    kept_N = scores_N >= 0.5
    assert found["f1"] == pytest.approx(metrics.f1_score(wanted_N, kept_N))
    assert found["precision"] == pytest.approx(metrics.precision_score(wanted_N, kept_N))
    assert found["recall"] == pytest.approx(metrics.recall_score(wanted_N, kept_N))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(wanted_N, kept_N))
    points = quality.roc(scores_N, wanted_N, points=500)
    area = np.trapezoid([y for _, y in points], [x for x, _ in points])
    assert area == pytest.approx(quality.auc(scores_N, wanted_N), abs=1e-9)


def test_rank_correlation_equals_scipys(numbers: tuple[np.ndarray, np.ndarray]) -> None:
    from scipy.stats import spearmanr

    scores_N, wanted_N = numbers
    other_N = scores_N**2 + wanted_N
    assert quality.correlation(scores_N, other_N) == pytest.approx(spearmanr(scores_N, other_N).statistic)
    assert quality.correlation([1, 1, 1], [1, 2, 3]) == 0.0


def test_no_threshold_is_better_than_the_best(numbers: tuple[np.ndarray, np.ndarray]) -> None:
    scores_N, wanted_N = numbers
    best = quality.best_threshold(scores_N, wanted_N)
    wanted = max(quality.at(t, scores_N, wanted_N)["f1"] for t in np.linspace(0, 1, 2001))
    assert quality.at(best, scores_N, wanted_N)["f1"] == pytest.approx(wanted)
    assert quality.best_threshold([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == pytest.approx(0.5)


def test_reliability_groups_cover_everyone(numbers: tuple[np.ndarray, np.ndarray]) -> None:
    groups = quality.reliability(*numbers)
    assert [group["documents"] for group in groups] == [20] * 10
    assert sum(group["positive_share"] * 20 for group in groups) == pytest.approx(numbers[1].sum())
    means = [group["mean_score"] for group in groups]
    assert means == sorted(means)
    assert len(quality.reliability([0.1, 0.9], [False, True])) == 1


def test_length_alone_is_worth_nothing_at_equal_length() -> None:
    draw = np.random.default_rng(0)
    lengths_N = draw.integers(100, 10_000, 3000)
    wanted_N = draw.random(3000) < lengths_N / 10_000
    assert quality.auc(lengths_N, wanted_N) > 0.75
    assert quality.auc_at_equal_length(np.floor(np.log(lengths_N) / np.log(1.5)), wanted_N, lengths_N) == 0.5
    assert quality.auc_at_equal_length(wanted_N * 1.0, wanted_N, lengths_N) == 1.0
    assert quality.auc_at_equal_length([0.1, 0.9], [False, True], [1, 1000]) is None


def test_folds_are_of_both_sides_and_hold_everyone_once() -> None:
    wanted_N = np.arange(53) < 13
    fold_N = quality.folds(wanted_N, 5, seed=3)
    assert sorted(np.bincount(fold_N)) == [10, 10, 11, 11, 11]
    assert all(2 <= wanted_N[fold_N == fold].sum() <= 3 for fold in range(5))
    assert (fold_N == quality.folds(wanted_N, 5, seed=3)).all()
    assert (fold_N != quality.folds(wanted_N, 5, seed=4)).any()
