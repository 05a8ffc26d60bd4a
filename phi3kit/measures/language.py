"""Measures of next-token distributions. Shapes: N positions, V vocabulary; leading dimensions are free."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def token_log_probs(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    """Log probability of each label, [N], in fp32 (nats)."""
    logits_NV = logits_NV.float()
    picked_N = logits_NV.gather(-1, labels_N.unsqueeze(-1)).squeeze(-1)
    return picked_N - logits_NV.logsumexp(-1)


def perplexity(loss: float) -> float:
    """``exp`` of a mean negative log likelihood in nats per token."""
    return math.exp(loss)


def bits_per_byte(nats: float, size: int) -> float:
    """What a text costs: its negative log likelihood in bits, for each byte of its UTF-8.

    Unlike the loss per token it compares models of different tokenizers (arXiv 2101.00027, section 3.1).

    Args:
        nats: negative log likelihood of the whole text.
        size: of the text, in bytes.
    """
    return nats / math.log(2) / size


def kl_divergence(reference_NV: Tensor, logits_NV: Tensor) -> Tensor:
    """Mean over positions of KL(reference || other), both given as logits, in nats per token."""
    p_NV = reference_NV.float().log_softmax(-1)
    q_NV = logits_NV.float().log_softmax(-1)
    return (p_NV.exp() * (p_NV - q_NV)).sum(-1).mean()


def top1_agreement(reference_NV: Tensor, logits_NV: Tensor) -> Tensor:
    """Share of positions at which both distributions have the same most likely token."""
    return (reference_NV.argmax(-1) == logits_NV.argmax(-1)).to(torch.float32).mean()
