"""Pick the next id from logits."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from phi3kit.errors import UserError

SEEDS = range(-(2**63), 2**64)  # what torch's generators take


def greedy(logits_V: Tensor) -> int:
    """The most likely id. Raises `UserError` where the logits are no numbers."""
    id = int(logits_V.argmax())
    _check(float(logits_V[id]))
    return id


@final
class Sampler:
    """Temperature and nucleus sampling (arXiv 1904.09751); temperature 0 is greedy.

    Args:
        temperature: divides the logits; 0 takes the most likely id.
        top_p: samples among the fewest ids whose probabilities reach this sum.
        seed: the same seed and logits give the same ids.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> None:
        if temperature < 0:
            raise UserError(f"temperature {temperature} is negative; 0 is greedy, 1 is the model's own distribution")
        if not math.isfinite(temperature):
            raise UserError(f"temperature {temperature} is no number; 0 is greedy, 1 is the model's own distribution")
        if not 0 < top_p <= 1:
            raise UserError(f"top_p {top_p} is not in (0, 1]; 1 samples among all ids")
        if seed not in SEEDS:
            raise UserError(f"seed {seed!r:.40} is too large; give a whole number of at most 64 bits")
        self.temperature, self.top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits_V: Tensor) -> int:
        if self.temperature == 0:
            return greedy(logits_V)
        exact_V = logits_V.double().cpu()
        highest = exact_V.max()
        _check(highest.item())
        # the likeliest id's logit becomes 0, so that no temperature makes an infinity of it
        p_V = ((exact_V - highest) / self.temperature).softmax(-1)
        sorted_V, ids_V = p_V.sort(descending=True, stable=True)
        before_V = sorted_V.cumsum(-1) - sorted_V  # the mass in front of each id
        sorted_V = sorted_V.masked_fill(before_V >= self.top_p, 0.0)
        return int(ids_V[torch.multinomial(sorted_V, 1, generator=self._generator)])


def _check(highest: float) -> None:
    """Refuse logits of which one is NaN or infinite, or all are minus infinity: the highest shows each of these."""
    if not math.isfinite(highest):
        raise UserError(
            f"the model's logits are no numbers (the highest is {highest}): its weights are not, or overflow; "
            "use an earlier checkpoint, or train with a smaller learning rate"
        )
