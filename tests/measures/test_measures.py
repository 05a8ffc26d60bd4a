"""Measures against independent computations."""

from __future__ import annotations

import math

import pytest
import torch

from phi3kit import measures


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(50, 11), torch.randn(50, 11)


def test_kl_equals_torch_distributions(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    p, q = (torch.distributions.Categorical(logits=x) for x in logits)
    expected = torch.distributions.kl_divergence(p, q).mean()
    assert float(measures.kl_divergence(*logits)) == pytest.approx(float(expected), abs=1e-6)
    assert float(measures.kl_divergence(logits[0], logits[0])) == pytest.approx(0, abs=1e-7)


def test_agreement_counts_equal_first_choices() -> None:
    a = torch.tensor([[1.0, 2, 0], [3, 1, 0], [0, 0, 1], [0, 1, 0]])
    b = torch.tensor([[0.0, 9, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    assert float(measures.top1_agreement(a, b)) == 0.5


def test_log_probs_and_perplexity(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    labels = torch.arange(50) % 11
    found = measures.token_log_probs(logits[0], labels)
    expected = -torch.nn.functional.cross_entropy(logits[0], labels, reduction="none")
    torch.testing.assert_close(found, expected)
    assert measures.perplexity(math.log(7)) == pytest.approx(7)


def test_choice_takes_the_likeliest(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    rows = logits[0][:20].view(4, 5, 11)
    labels = torch.full((4, 5), -100)
    labels[:, 3:] = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
    scores = measures.choice_log_likelihood(rows, labels)
    by_hand = [float(rows[i, 3].log_softmax(0)[2 * i + 1] + rows[i, 4].log_softmax(0)[2 * i + 2]) for i in range(4)]
    assert scores.tolist() == pytest.approx(by_hand, abs=1e-5)
    halves = measures.choice_log_likelihood(rows, labels, normalise=True)
    torch.testing.assert_close(halves * 2, scores)
    assert measures.choice(scores) == max(range(4), key=by_hand.__getitem__)


def test_exact_match_ignores_outer_space_only() -> None:
    assert measures.exact_match([" a b", "c", "D"], ["a b ", "c", "d"]) == pytest.approx(2 / 3)
