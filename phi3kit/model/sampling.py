"""Pick the next id from logits."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from phi3kit.errors import UserError


def greedy(logits_V: Tensor) -> int:
    """The most likely id."""
    return int(logits_V.argmax())


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
        if not 0 < top_p <= 1:
            raise UserError(f"top_p {top_p} is not in (0, 1]; 1 samples among all ids")
        self.temperature, self.top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits_V: Tensor) -> int:
        if self.temperature == 0:
            return greedy(logits_V)
        p_V = (logits_V.float().cpu() / self.temperature).softmax(-1)
        sorted_V, ids_V = p_V.sort(descending=True)
        before_V = sorted_V.cumsum(-1) - sorted_V  # the mass in front of each id
        sorted_V = sorted_V.masked_fill(before_V >= self.top_p, 0.0)
        return int(ids_V[torch.multinomial(sorted_V, 1, generator=self._generator)])
