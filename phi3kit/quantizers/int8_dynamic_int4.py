"""torchao's 8da4w: 4-bit weights in groups, activations rounded to 8 bits as they come."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import nn

from phi3kit.errors import UserError
from phi3kit.families import Quantizer
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid
from phi3kit.quantizers.layers import Grids, is_head
from phi3kit.quantizers.low_bit import Method, round_part

METHODS = ("hqq", "plain")


@final
class Int8DynamicInt4Weight(Quantizer):
    """Linear layers with 4-bit weights and 8-bit dynamic activations; a quantized embedding (torchao "8da4w").

    Args:
        group_size: weights of a row that share a scale; a multiple of 32 that divides every layer's width. null: a
            whole row shares one.
        head_bits: 8 (one scale per row) or 4 (groups) for the output head, where errors cost most.
        embedding_bits: 8, 4 or 2; embeddings are only looked up, so their bits cost file size and nothing else.
        embedding_group: numbers of an embedding that share a scale; divides the hidden size. null: all of them.
        method: "hqq" fits each group's scale to its weights (https://mobiusml.github.io/hqq_blog), "plain"
            takes it from their largest. To fit weights to text instead: `GPTQ`.
    """

    def __init__(
        self,
        group_size: int | None = 32,
        head_bits: Literal[4, 8] = 8,
        embedding_bits: Literal[2, 4, 8] = 8,
        embedding_group: int | None = 32,
        method: Method = "hqq",
    ) -> None:
        if method not in METHODS:
            raise UserError(f"method {method!r} does not work; use one of {', '.join(METHODS)}")
        linear = LinearGrid(4, group_size)
        self.method: Method = method
        self.grids = Grids(linear, head_grid(head_bits, linear), EmbeddingGrid(embedding_bits, embedding_group))

    def plan(self, net: nn.Module) -> None:
        """Raise `UserError` where a layer's width is no multiple of its group."""
        self.grids.check(net)

    @torch.no_grad()
    def quantize(self, part: nn.Module, name: str = "") -> None:
        """Quantize a net's, or a part's, linear layers and embeddings.

        Raises:
            UserError: a layer's width is no multiple of its group; nothing was quantized.
        """
        round_part(part, name, self.grids, self._method_of)

    def _method_of(self, name: str) -> Method:
        """8 bits are near enough to need no fitting."""
        return "plain" if is_head(name) and self.grids.head.bits == 8 else self.method

    def bytes(self, net: nn.Module) -> dict[str, int]:
        """As its grids say."""
        return self.grids.bytes(net)

    def describe(self) -> dict[str, Any]:
        """Bits, group sizes and method."""
        return {
            "name": "8da4w",
            "activations": "int8, dynamic, per token",
            "linear": self.grids.linear.describe(self.method),
            "head": self.grids.head.describe(self._method_of("lm_head")),
            "embedding": self.grids.embedding.describe(),
        }


def head_grid(bits: int, linear: LinearGrid) -> LinearGrid:
    """8 bits with one scale per row, or the grid of the other linear layers. Raises `UserError` for other bits."""
    if bits not in (4, 8):
        raise UserError(f"head_bits {bits} does not work; use one of 4, 8")
    return LinearGrid(8, None) if bits == 8 else linear
