"""Rows of a matrix as matrices of their own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def apart(linear: nn.Linear, sizes: Sequence[int]) -> list[nn.Linear]:
    """Linear layers of `sizes` consecutive rows each, without gradients.

    On devices: XNNPACK (ExecuTorch 1.4.1) cannot split what one matrix gives, so a net whose matrices give one thing
    each is cut into fewer pieces. They share the memory of the one they come from, unless that is quantized: 4-bit rows
    are packed from where their memory begins, not from where they do.
    """
    layers, start = [], 0
    for rows in sizes:
        layer = nn.Linear(linear.in_features, rows, bias=linear.bias is not None, device="meta")
        for name, numbers in linear.named_parameters():
            part = numbers.detach()[start : start + rows]
            part = part if type(part) is Tensor else part.clone()
            setattr(layer, name, nn.Parameter(part, requires_grad=False))
        layers.append(layer)
        start += rows
    return layers
