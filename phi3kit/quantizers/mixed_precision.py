"""More bits where they matter most, under a size budget.

Special here: the net comes twice. First float, when each layer's harm is measured on text at every grid
(`sensitivity`); then to be quantized, each layer onto the grid that was chosen for it, fitted to the text (`gptq`).
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.families import Quantizer
from phi3kit.quantizers.gptq import Run, fit_block
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid
from phi3kit.quantizers.layers import embeddings, linears
from phi3kit.quantizers.low_bit import round_embedding, round_linear
from phi3kit.quantizers.sensitivity import Option, as_json, bytes_of, choose, least, relative_change, shown

FLOAT = 4  # bytes of what is not quantized
GRAPH_SHARE, GRAPH_BYTES = 0.002, 100_000  # of a program that is neither weights nor tables of positions


@final
class MixedPrecision(Quantizer):
    """8-bit dynamic activations, and for each layer 4 bits in large, small or no groups, or 8 bits: whatever does the
    least harm on the calibration text within the budget. 4-bit weights are fitted to the text as by `GPTQ`.

    Args:
        max_size: of the program, "2.3GB"; a budget that 4 bits with one scale per row exceed is refused.
        group_sizes: groups that 4-bit weights may have beside one scale per row; those that divide a layer's width.
        damping: as `GPTQ`'s.
    """

    calibrated = True
    surveys = True

    def __init__(self, max_size: str, group_sizes: list[int] | None = None, damping: float = 0.01) -> None:
        self.max_size, self.damping = max_size, damping
        self.max_bytes = bytes_of(max_size)
        sizes = [128, 32] if group_sizes is None else group_sizes
        self.linear = [LinearGrid(4, None), *(LinearGrid(4, size) for size in sizes), LinearGrid(8, None)]
        self.embedding = [EmbeddingGrid(4, None), EmbeddingGrid(4, 32), EmbeddingGrid(8, None)]
        self.table: dict[str, list[Option]] = {}
        self.chosen: dict[str, Option] = {}
        self._floats: dict[str, int] = {}

    def within(self, max_size: str) -> MixedPrecision:
        """Itself, with another budget."""
        self.max_size, self.max_bytes = max_size, bytes_of(max_size)
        return self

    def beside(self, count: int) -> MixedPrecision:
        """Itself, leaving room for so many bytes of a program that are not weights: its tables of positions."""
        self._floats["tables of positions"] = count
        return self

    @torch.no_grad()
    def survey(self, part: nn.Module, name: str, run: Run) -> None:
        """Measure what each grid does to what the part puts out."""
        part.float()
        layers = _layers(part, name)
        wanted = list(run()) if layers else []
        for full_name, layer in layers:
            self.table[full_name] = [self._measured(layer, grid, wanted, run) for grid in self._grids(layer)]
        inside = {id(layer.weight) for _, layer in layers}
        self._floats[name] = FLOAT * sum(p.numel() for p in part.parameters() if id(p) not in inside)

    def _grids(self, layer: nn.Linear | nn.Embedding) -> list[LinearGrid] | list[EmbeddingGrid]:
        width = layer.weight.shape[1]
        if isinstance(layer, nn.Embedding):
            return [grid for grid in self.embedding if width % (grid.group_size or 1) == 0]
        return [grid for grid in self.linear if width % (grid.group_size or 1) == 0]

    def _measured(
        self, layer: nn.Linear | nn.Embedding, grid: LinearGrid | EmbeddingGrid, wanted: list[Tensor], run: Run
    ) -> Option:
        floats = layer.weight
        _round(layer, grid)
        harm = relative_change(wanted, run())
        layer.weight = floats
        return Option(grid, grid.bytes(*floats.shape), harm)

    def plan(self, net: nn.Module) -> None:
        """Choose each layer's grid. Raises `UserError` where the budget is too small, or nothing was measured."""
        if not self.table:
            raise UserError("MixedPrecision has measured nothing yet; it needs a survey of the float net first")
        rest = sum(self._floats.values())
        room = int((self.max_bytes - GRAPH_BYTES) / (1 + GRAPH_SHARE)) - rest
        smallest = least(self.table)
        if room < smallest:
            minimum = int((smallest + rest) * (1 + GRAPH_SHARE)) + GRAPH_BYTES
            raise UserError(f"max_size {self.max_size} is too small for this net; the least is {shown(minimum)}")
        self.chosen = choose(self.table, room)

    @torch.no_grad()
    def quantize(self, part: nn.Module, name: str = "") -> None:
        """Quantize a part that needs no fitting: the embedding."""
        if not name:
            raise UserError("MixedPrecision fits weights to text, block by block, not to a net at once")
        part.float()
        for full_name, layer in _layers(part, name):
            _round(layer, self._chosen(full_name))

    @torch.no_grad()
    def quantize_block(self, block: nn.Module, name: str, run: Run) -> None:
        """Quantize a block, each layer onto its grid."""
        block.float()
        fit_block(block, name, run, self._chosen, self.damping)

    def _chosen(self, name: str) -> Any:
        if name not in self.chosen:
            raise UserError(f"MixedPrecision has not measured {name}, no text passes through it; use another quantizer")
        return self.chosen[name].grid

    def bytes(self, net: nn.Module) -> dict[str, int]:
        """As chosen; before anything is chosen, as 4 bits with one scale per row would be."""
        if self.chosen:
            return {name: option.bytes for name, option in self.chosen.items()}
        return {name: self._grids(layer)[0].bytes(*layer.weight.shape) for name, layer in _layers(net, "")}

    def describe(self) -> dict[str, Any]:
        """The budget, and what was chosen for each layer."""
        return {
            "name": "mixed",
            "activations": "int8, dynamic, per token",
            "max_size": self.max_size,
            "method": "gptq",
            "layers": {name: table[0] for name, table in as_json({n: [o] for n, o in self.chosen.items()}).items()},
        }


def _layers(part: nn.Module, name: str) -> list[tuple[str, nn.Linear | nn.Embedding]]:
    return [*linears(part, name), *embeddings(part, name)]


def _round(layer: nn.Linear | nn.Embedding, grid: LinearGrid | EmbeddingGrid) -> None:
    if isinstance(layer, nn.Embedding):
        assert isinstance(grid, EmbeddingGrid)
        round_embedding(layer, grid)
    else:
        assert isinstance(grid, LinearGrid)
        round_linear(layer, grid, "hqq" if grid.bits == 4 else "plain")
