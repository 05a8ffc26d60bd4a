"""How evenly the tokens are spread over the experts, as a loss and as numbers to watch.

Shapes: N tokens, K chosen experts, E experts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed

from phi3kit.families import Routing


class Balance(NamedTuple):
    """`loss` is K where every expert gets the same share of tokens and of probability; `load_E` sums to one."""

    loss: Tensor
    load_E: Tensor


def balance_of(routing: Routing, real_N: Tensor) -> Balance:
    """Switch Transformer's balance loss (arXiv 2101.03961, equations 4-6), for K chosen experts.

    ``E * sum_e f_e P_e``: f is the number of times a token of the batch was sent to e, per token (it sums to K, as in
    transformers' `load_balancing_loss_func`), P the mean probability of e. Only P has a gradient. With several devices
    f is that of the whole batch: a small share of it need not be balanced (GRIN, arXiv 2409.12136: global balance).

    Args:
        routing: of every token.
        real_N: false where a token is padding; it counts for nothing.
    """
    tokens_N1 = real_N.float()[:, None]
    mean_E = (routing.probabilities_NE.float() * tokens_N1).sum(0) / tokens_N1.sum().clamp(min=1)
    with torch.no_grad():
        sent_E = _sent(routing.experts_NK, real_N, mean_E.shape[0])
        times_E = sent_E * routing.experts_NK.shape[1] / sent_E.sum().clamp(min=1)
    return Balance(mean_E.shape[0] * (times_E * mean_E).sum(), sent_E / sent_E.sum().clamp(min=1))


def _sent(experts_NK: Tensor, real_N: Tensor, n_experts: int) -> Tensor:
    """Real tokens sent to each expert, [E] fp32, on all devices together."""
    real_NK = real_N[:, None].expand_as(experts_NK).float()
    sent_E = torch.zeros(n_experts, device=experts_NK.device)
    sent_E.scatter_add_(0, experts_NK.flatten(), real_NK.flatten())  # whole numbers: exact in any order
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sent_E)
    return sent_E
