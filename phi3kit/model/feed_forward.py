"""Phi-3's feed-forward: a gated linear unit with SiLU (SwiGLU)."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.families import FeedForward
from phi3kit.model.rows import apart
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

    def on_device(self) -> nn.Module:
        return GatedMLPApart(self.gate_up_proj, self.down_proj)


@final
class GatedMLPApart(nn.Module):
    """`GatedMLP` with a matrix for the gate and one for what it lets through.

    Args:
        gate_up_proj: rows [gate | up], any bias included.
        down_proj: the second matrix.
    """

    def __init__(self, gate_up_proj: nn.Linear, down_proj: nn.Linear) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = apart(gate_up_proj, 2 * [gate_up_proj.out_features // 2])
        self.down_proj = down_proj

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(x_BTD) * F.silu(self.gate_proj(x_BTD)))
