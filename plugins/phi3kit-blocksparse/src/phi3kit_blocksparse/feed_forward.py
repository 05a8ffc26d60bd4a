"""Phi-3-small's feed-forward: a gated linear unit with a clamped sigmoid-GELU, its two halves in alternate rows."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.families import FeedForward
from phi3kit.records import Dims
from phi3kit_blocksparse.device import DeviceGEGELU


def gegelu(x_BTI: Tensor, limit: float | None) -> Tensor:
    """``a * sigmoid(1.702 a) * (b + 1)`` of the even (a) and odd (b) numbers (Phi-3-small, modeling_phi3_small.py).

    a is clamped from above, b from both sides; infinities pass the clamp. [..., 2I] -> [..., I].
    """
    gate, linear = x_BTI[..., ::2], x_BTI[..., 1::2]
    if limit is not None:
        gate = torch.where(gate.isinf(), gate, gate.clamp(max=limit))
        linear = torch.where(linear.isinf(), linear, linear.clamp(-limit, limit))
    return gate * torch.sigmoid(1.702 * gate) * (linear + 1)


@final
class GEGELUMLP(FeedForward):
    """``down(gegelu(up(x)))``: rows of `up_proj` alternate between the gated and the linear half; both have biases.

    Args:
        dims: the net's sizes.
        layer: index of this layer.
        limit: the gated half is clamped to at most this, the linear half to this on both sides; null does not clamp.
        dropout: share of the output's numbers dropped in training.
    """

    def __init__(self, dims: Dims, layer: int, limit: float | None = 20.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.limit, self.dropout = limit, dropout
        self.up_proj = nn.Linear(dims.hidden_size, 2 * dims.inner_width)
        self.down_proj = nn.Linear(dims.inner_width, dims.hidden_size)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.dropout(self.down_proj(gegelu(self.up_proj(x_BTD), self.limit)), self.dropout, self.training)

    def on_device(self) -> nn.Module:
        return DeviceGEGELU(self)
