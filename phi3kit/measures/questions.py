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


def choice(scores: Sequence[float] | Tensor) -> int:
    """Index of the most likely choice; the first of equals."""
    return int(torch.as_tensor(scores).argmax())
