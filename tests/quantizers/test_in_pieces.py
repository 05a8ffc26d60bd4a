"""A matrix is rounded and fitted some rows at a time, with the result of all at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phi3kit.quantizers import compensation, low_bit
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid

ROWS, WIDTH = 23, 64


def matrix(kind: type[nn.Linear] | type[nn.Embedding]) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(WIDTH, ROWS, bias=False) if kind is nn.Linear else nn.Embedding(ROWS, WIDTH)
    return layer.requires_grad_(False)


def parts(layer: nn.Module) -> list[torch.Tensor]:
    weight = layer.weight
    assert weight.shape == (ROWS, WIDTH)
    return [weight.qdata, weight.scale, weight.zero_point, weight.dequantize()]


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, None), (8, None)])
def test_rounding(monkeypatch, bits, group):
    def rounded() -> list[torch.Tensor]:
        linear, embedding = matrix(nn.Linear), matrix(nn.Embedding)
        low_bit.round_linear(linear, LinearGrid(bits, group), "hqq" if bits == 4 else "plain")
        low_bit.round_embedding(embedding, EmbeddingGrid(bits, group))
        return parts(linear) + parts(embedding)

    whole = rounded()
    monkeypatch.setattr(low_bit, "PIECE", 5 * WIDTH)
    assert all(torch.equal(got, wanted) for got, wanted in zip(rounded(), whole, strict=True))


@pytest.mark.parametrize("group", [32, None])
def test_fitting(monkeypatch, group):
    weight_OI, x_NI = matrix(nn.Linear).weight.double(), torch.randn(200, WIDTH, dtype=torch.float64)
    given = weight_OI, x_NI.T @ x_NI, LinearGrid(4, group), 0.01
    whole = compensation.compensated(*given)
    monkeypatch.setattr(compensation, "ROWS", 5)
    assert all(torch.equal(got, wanted) for got, wanted in zip(compensation.compensated(*given), whole, strict=True))
