"""Measures of answers: exact match and the likelihood of given choices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phi3kit.measures.language import token_log_probs


def exact_match(answers: Sequence[str], expected: Sequence[str]) -> float:
    """Share of answers equal to what was expected, outer white space aside."""
    assert len(answers) == len(expected), (len(answers), len(expected))
    hits = sum(a.strip() == e.strip() for a, e in zip(answers, expected, strict=True))
    return hits / len(expected) if expected else float("nan")


def choice_log_likelihood(logits_BTV: Tensor, labels_BT: Tensor, *, normalise: bool = False) -> Tensor:
    """Log likelihood of each row's choice, [B], in nats.

    Args:
        logits_BTV: next-token logits for each row (prompt and choice together).
        labels_BT: the id each position must predict; -100 outside the choice.
        normalise: divide by the choice's number of tokens (lm-eval's ``acc_norm`` divides by bytes instead).
    """
    counted_BT = labels_BT != -100
    log_probs_BT = token_log_probs(logits_BTV, labels_BT.clamp(min=0)) * counted_BT
    total_B = log_probs_BT.sum(-1)
    return total_B / counted_BT.sum(-1) if normalise else total_B


def guessing(right: int, choices: Sequence[int]) -> float:
    """Probability that guessing answers at least so many questions, 0 to 1: a one-sided test against chance, exact.

    Args:
        right: how many were answered.
        choices: how many choices each question has.
    """
    at_N = torch.ones(1, dtype=torch.float64)  # probability of 0, 1, … right answers to the questions so far
    for n in choices:
        wrong_N = torch.cat([at_N, at_N.new_zeros(1)]) * (1 - 1 / n)
        at_N = torch.cat([at_N.new_zeros(1), at_N]) / n + wrong_N
    return float(at_N[right:].sum().clamp(max=1.0))


def choice(scores: Sequence[float] | Tensor) -> int:
    """Index of the most likely choice; the first of equals."""
    return int(torch.as_tensor(scores).argmax())
