"""Normalisations: by the root mean square, as Phi-3-mini and medium have it, and LayerNorm (small, MoE)."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.families import Norm


@final
class RMSNorm(Norm):
    """``w * cast(x / rms(x))``: normalised in fp32, cast back *before* the weight (transformers' Phi3RMSNorm).

    Written out, not `F.rms_norm`: XNNPACK takes every operator of this form (ExecuTorch 1.4).

    Args:
        width: of what is normalised.
        eps: added to the mean square.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        x = x_BTD.float()
        x = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps)
        return self.weight * x.to(x_BTD.dtype)


@final
class LayerNorm(Norm):
    """``w * (x - mean) / std + b``, computed in fp32 (arXiv 1607.06450): Phi-3-small and Phi-3.5-MoE.

    Args:
        width: of what is normalised.
        eps: added to the variance.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.layer_norm(x_BTD, (self.width,), self.weight, self.bias, self.eps)
