"""Rows of a matrix as matrices of their own, without a copy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def apart(linear: nn.Linear, sizes: Sequence[int]) -> list[nn.Linear]:
    """Linear layers of `sizes` consecutive rows each, in the memory of the one they come from, without gradients.

    On devices: XNNPACK (ExecuTorch 1.4) cannot split what one matrix gives, so a net whose matrices give one thing each
    is cut into fewer pieces.
    """
    layers, start = [], 0
    for rows in sizes:
        layer = nn.Linear(linear.in_features, rows, bias=linear.bias is not None, device="meta")
        for name, numbers in linear.named_parameters():
            setattr(layer, name, nn.Parameter(numbers.detach()[start : start + rows], requires_grad=False))
        layers.append(layer)
        start += rows
    return layers
