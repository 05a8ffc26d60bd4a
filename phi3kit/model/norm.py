"""Root-mean-square normalisation, as Phi-3 computes it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class RMSNorm(nn.Module):
    """``w * cast(x / rms(x))``: normalised in fp32, cast back *before* the weight (transformers' Phi3RMSNorm).

    Written out, not `F.rms_norm`: XNNPACK takes every operator of this form (ExecuTorch 1.4).
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        x = x_BTD.float()
        x = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps)
        return self.weight * x.to(x_BTD.dtype)
