"""torchao's 4w and 8w: weights in few bits, activations as they come."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import nn

from phi3kit.errors import UserError
from phi3kit.families import Quantizer
from phi3kit.quantizers.grid import EmbeddingGrid, WeightGrid
from phi3kit.quantizers.int8_dynamic_int4 import METHODS
from phi3kit.quantizers.layers import Grids, is_head
from phi3kit.quantizers.low_bit import Method, round_part


@final
class WeightOnly(Quantizer):
    """Linear layers and an embedding with weights of 4 or 8 bits; activations are left as they are. For backends that
    compute in fp16, as CoreML does; XNNPACK cannot.

    Args:
        bits: 4 or 8, of the linear layers inside the blocks.
        group_size: weights of a row that share a scale; a multiple of 32 that divides every layer's width. null: a
            whole row shares one.
        head_bits: 4 or 8, of the output head, where errors cost most; in the same groups.
        embedding_bits: 8 or 4; embeddings are only looked up.
        embedding_group: numbers of an embedding that share a scale; divides the hidden size. null: all of them.
        method: "hqq" fits each group's scale to its weights (https://mobiusml.github.io/hqq_blog), "plain"
            takes it from their largest; 8 bits are always "plain".
    """

    weights_alone = True

    def __init__(
        self,
        bits: Literal[4, 8] = 4,
        group_size: int | None = 32,
        head_bits: Literal[4, 8] = 8,
        embedding_bits: Literal[4, 8] = 8,
        embedding_group: int | None = 32,
        method: Method = "hqq",
    ) -> None:
        if method not in METHODS:
            raise UserError(f"method {method!r} does not work; use one of {', '.join(METHODS)}")
        if embedding_bits not in (4, 8):
            raise UserError(f"embedding_bits {embedding_bits} does not work; use one of 4, 8")
        self.method: Method = method
        linear, head = WeightGrid(bits, group_size), WeightGrid(head_bits, group_size)
        self.grids = Grids(linear, head, EmbeddingGrid(embedding_bits, embedding_group))

    def plan(self, net: nn.Module) -> None:
        """Raise `UserError` where a layer's width is no multiple of its group."""
        self.grids.check(net)

    @torch.no_grad()
    def quantize(self, part: nn.Module, name: str = "") -> None:
        """Quantize a net's, or a part's, linear layers and embeddings.

        Raises:
            UserError: a layer's width is no multiple of its group; nothing was quantized.
        """
        round_part(part, name, self.grids, lambda layer: self._method_of(is_head(layer)))

    def _method_of(self, head: bool) -> Method:
        """8 bits are near enough to need no fitting."""
        return "plain" if (self.grids.head if head else self.grids.linear).bits == 8 else self.method

    def bytes(self, net: nn.Module) -> dict[str, int]:
        """As its grids say."""
        return self.grids.bytes(net)

    def describe(self) -> dict[str, Any]:
        """Bits, group sizes and method."""
        return {
            "name": f"{self.grids.linear.bits}w",
            "activations": "as they come",
            "linear": self.grids.linear.describe(self._method_of(False)),
            "head": self.grids.head.describe(self._method_of(True)),
            "embedding": self.grids.embedding.describe(),
        }
