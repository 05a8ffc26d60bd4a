"""torchao's 8da8w: 8-bit weights with one scale per row, activations rounded to 8 bits as they come."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import nn

from phi3kit.families import Quantizer
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid
from phi3kit.quantizers.layers import Grids
from phi3kit.quantizers.low_bit import round_part


@final
class Int8DynamicInt8Weight(Quantizer):
    """Linear layers, the head too, with 8-bit weights and 8-bit dynamic activations; a quantized embedding ("8da8w").

    Args:
        embedding_bits: 8, 4 or 2; embeddings are only looked up, so their bits cost file size and nothing else.
        embedding_group: numbers of an embedding that share a scale; divides the hidden size. null: all of them.
    """

    def __init__(self, embedding_bits: Literal[2, 4, 8] = 8, embedding_group: int | None = 32) -> None:
        linear = LinearGrid(8, None)
        self.grids = Grids(linear, linear, EmbeddingGrid(embedding_bits, embedding_group))

    def plan(self, net: nn.Module) -> None:
        """Raise `UserError` where the hidden size is no multiple of the embedding's group."""
        self.grids.check(net)

    @torch.no_grad()
    def quantize(self, part: nn.Module, name: str = "") -> None:
        """Quantize a net's, or a part's, linear layers and embeddings."""
        round_part(part, name, self.grids, lambda _: "plain")

    def bytes(self, net: nn.Module) -> dict[str, int]:
        """As its grids say."""
        return self.grids.bytes(net)

    def describe(self) -> dict[str, Any]:
        """Bits, group sizes and method."""
        return {
            "name": "8da8w",
            "activations": "int8, dynamic, per token",
            "linear": self.grids.linear.describe("plain"),
            "head": self.grids.head.describe("plain"),
            "embedding": self.grids.embedding.describe(),
        }
