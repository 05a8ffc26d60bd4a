"""Norms whose means are products with a matrix: XNNPACK takes no mean over the last dimension (ExecuTorch 1.4.1).

Each mean left to ExecuTorch's own kernels would cut a layer in two. What they compute differs by fp32's rounding alone.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.model.norm import LayerNorm, RMSNorm


def means_as_products(module: nn.Module) -> None:
    """Give the norms of a net that form, in place; other components' stay as they are."""
    for name, child in module.named_children():
        if isinstance(child, RMSNorm):
            setattr(module, name, RMSNormByProduct(child))
        elif isinstance(child, LayerNorm):
            setattr(module, name, LayerNormByProduct(child))
        else:
            means_as_products(child)


class _ByProduct(nn.Module):
    """A norm that takes means of rows by a product.

    Args:
        norm: whose weights it shares.
    """

    mean_1D: Tensor

    def __init__(self, norm: RMSNorm | LayerNorm) -> None:
        super().__init__()
        self.weight, self.eps, width = norm.weight, norm.eps, norm.weight.numel()
        self.register_buffer("mean_1D", torch.full((1, width), 1 / width), persistent=False)

    def mean(self, x_BTD: Tensor) -> Tensor:
        """[B, T, 1]."""
        return F.linear(x_BTD, self.mean_1D)


@final
class RMSNormByProduct(_ByProduct):
    """`RMSNorm`."""

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.weight * (x_BTD * torch.rsqrt(self.mean(x_BTD * x_BTD) + self.eps))


@final
class LayerNormByProduct(_ByProduct):
    """`LayerNorm`.

    Args:
        norm: whose weights it shares.
    """

    def __init__(self, norm: LayerNorm) -> None:
        super().__init__(norm)
        self.bias = norm.bias

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD - self.mean(x_BTD)
        return self.weight * (x_BTD * torch.rsqrt(self.mean(x_BTD * x_BTD) + self.eps)) + self.bias
