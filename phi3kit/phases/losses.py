"""Losses, as pure functions. Shapes: B rows, T tokens, N supervised tokens, D hidden, V vocabulary."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from phi3kit.model import Decoder
from phi3kit.records import Batch

IGNORED = -100
MOST_LOGITS = 2**28  # numbers (1 GiB in fp32) that stand in memory at once


def token_losses(net: Decoder, batch: Batch) -> Tensor:
    """Negative log likelihood (nats, fp32) of every supervised token, [N], in reading order.

    Logits are computed for supervised tokens only: in SFT most tokens are prompt. Where they are many, they are
    computed some tokens at a time, and again in the backward pass: a row of 131,072 tokens has 17 GB of them.
    """
    hidden_BTD = net.hidden(batch.tokens_BT, batch.positions_BT, batch.documents_BT, pictures=batch.pictures)
    supervised_BT = batch.labels_BT != IGNORED
    hidden_ND, labels_N = hidden_BTD[supervised_BT], batch.labels_BT[supervised_BT]
    at_once = max(1, MOST_LOGITS // net.dims.vocab_size)
    if len(labels_N) <= at_once:
        return _cross_entropy(net, hidden_ND, labels_N)
    parts = zip(hidden_ND.split(at_once), labels_N.split(at_once), strict=True)
    return torch.cat([checkpoint(_cross_entropy, net, *part, use_reentrant=False) for part in parts])


def _cross_entropy(net: Decoder, hidden_ND: Tensor, labels_N: Tensor) -> Tensor:
    return F.cross_entropy(net.logits(hidden_ND).float(), labels_N, reduction="none")


def answer_log_probs(net: Decoder, batch: Batch) -> Tensor:
    """Summed log probability of each row's supervised tokens, [B] (nats)."""
    supervised_BT = batch.labels_BT != IGNORED
    rows_N = supervised_BT.nonzero()[:, 0]
    total_B = torch.zeros(batch.labels_BT.shape[0], dtype=torch.float32, device=batch.labels_BT.device)
    return total_B.index_add(0, rows_N, -token_losses(net, batch))


class Rewards(NamedTuple):
    """DPO's implicit rewards of one batch of pairs, [P] each."""

    chosen_P: Tensor
    rejected_P: Tensor


def dpo_loss(
    policy_chosen_P: Tensor,
    policy_rejected_P: Tensor,
    reference_chosen_P: Tensor,
    reference_rejected_P: Tensor,
    beta: float,
) -> tuple[Tensor, Rewards]:
    """Direct preference optimisation, ``-log sigmoid(beta * margin)`` (arXiv 2305.18290, equation 7).

    Args:
        policy_chosen_P: summed log probability of each chosen answer under the net being trained.
        policy_rejected_P: the same for the rejected answers.
        reference_chosen_P: under the frozen reference.
        reference_rejected_P: under the frozen reference.
        beta: strength of the pull towards the reference.

    Returns:
        Loss of each pair, [P], and the implicit rewards ``beta * (policy - reference)``.
    """
    rewards = Rewards(beta * (policy_chosen_P - reference_chosen_P), beta * (policy_rejected_P - reference_rejected_P))
    return -F.logsigmoid(rewards.chosen_P - rewards.rejected_P), rewards
