"""Phi-3's feed-forward: a gated linear unit with SiLU (SwiGLU)."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.families import FeedForward
from phi3kit.records import Dims


@final
class GatedMLP(FeedForward):
    """``down(up(x) * silu(gate(x)))``, gate and up in one matrix with rows [gate | up] (arXiv 2002.05202)."""

    def __init__(self, dims: Dims, layer: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(dims.hidden_size, 2 * dims.inner_width, bias=False)
        self.down_proj = nn.Linear(dims.inner_width, dims.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_BTI, up_BTI = self.gate_up_proj(x_BTD).chunk(2, dim=-1)
        return self.down_proj(up_BTI * F.silu(gate_BTI))
