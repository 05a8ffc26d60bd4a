"""Every grid that can be asked for: the program that XNNPACK runs computes what the quantized layer does eagerly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phi3kit.export import XNNPACK
from phi3kit.native_output import silenced
from phi3kit.quantizers.compensation import compensated
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid
from phi3kit.quantizers.low_bit import round_embedding, round_linear, set_linear

WIDTH = 256
LINEARS = [LinearGrid(4, size) for size in (32, 64, 128, 256, None)] + [LinearGrid(8, None)]
EMBEDDINGS = [EmbeddingGrid(bits, size) for bits in (2, 4, 8) for size in (32, None)]


class Layers(nn.Module):
    """One layer of each grid; their outputs side by side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linears = nn.ModuleList(nn.Linear(WIDTH, 40, bias=number % 2 == 0) for number in range(len(LINEARS)))
        self.embeddings = nn.ModuleList(nn.Embedding(24, WIDTH) for _ in EMBEDDINGS)
        x = torch.randn(300, WIDTH)
        for layer, grid in zip(self.linears, LINEARS, strict=True):
            set_linear(layer, *compensated(layer.weight.detach(), x.t() @ x, grid, 0.01), grid)
        for layer, grid in zip(self.embeddings, EMBEDDINGS, strict=True):
            round_embedding(layer, grid)

    def forward(self, x, ids):
        return (*(layer(x) for layer in self.linears), *(layer(ids) for layer in self.embeddings))


@torch.no_grad()
def test_programs_compute_what_quantized_layers_do():
    import executorch.kernels.quantized  # noqa: F401 - registers the operators of embeddings
    from executorch.runtime import Runtime

    layers = Layers().eval()
    x, ids = torch.randn(5, WIDTH), torch.arange(24)
    with silenced():
        program = torch.export.export(layers, (x, ids))
        content = XNNPACK().lower(program, {})
        got = Runtime.get().load_program(content).load_method("forward").execute([x, ids])
    for number, (one, wanted) in enumerate(zip(got, layers(x, ids), strict=True)):
        where = layers.linears[number].weight if number < len(layers.linears) else f"embedding {number}"
        assert float((one - wanted).abs().max()) < 2e-5 * float(wanted.abs().max()), where


@pytest.mark.parametrize("grid", LINEARS + EMBEDDINGS, ids=str)
def test_sizes_are_those_of_a_program(grid):
    """Packed weights and scales, counted from the tensors that are lowered."""
    kind = nn.Linear(WIDTH, 40, bias=False) if isinstance(grid, LinearGrid) else nn.Embedding(40, WIDTH)
    (round_linear(kind, grid, "plain") if isinstance(grid, LinearGrid) else round_embedding(kind, grid))
    weight = kind.weight
    scales = weight.scale.numel() * weight.scale.element_size()
    assert grid.bytes(40, WIDTH) == 40 * WIDTH * grid.bits // 8 + scales
    assert int(weight.qdata.min()) >= -(2 ** (grid.bits - 1))
    assert int(weight.qdata.max()) <= 2 ** (grid.bits - 1) - 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearGrid(2, 32), "2-bit weights of a linear layer do not work on XNNPACK; use 4, or 8"),
        (lambda: LinearGrid(3, None), "3-bit weights"),
        (lambda: LinearGrid(8, 32), "8-bit weights in groups of 32 do not work on XNNPACK; use one scale per row"),
        (lambda: LinearGrid(4, 16), "group_size 16 does not work; XNNPACK wants a multiple of 32"),
        (lambda: EmbeddingGrid(3, 32), "embedding_bits 3 does not work; use one of 2, 4, 8"),
        (lambda: EmbeddingGrid(4, 6), "embedding_group 6 does not work; use a multiple of 4"),
    ],
)
def test_what_xnnpack_gets_wrong_cannot_be_asked_for(build, message):
    with pytest.raises(ValueError, match=message):
        build()
