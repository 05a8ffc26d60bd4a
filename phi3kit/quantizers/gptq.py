"""GPTQ (Frantar et al., arXiv 2210.17323): 4-bit weights fitted to what the layers read on real text.

Special here: layers that read the same input are one stage, and a stage is fitted to inputs that come through the
stages before it already quantized. Memory beside one block and the text's hidden states: one I x I matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.families import Quantizer
from phi3kit.quantizers.compensation import compensated
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid
from phi3kit.quantizers.int8_dynamic_int4 import head_grid
from phi3kit.quantizers.layers import Grids, linears
from phi3kit.quantizers.low_bit import round_linear, round_part, set_linear

Run = Callable[[], Iterator[Tensor]]


@final
class GPTQ(Quantizer):
    """8da4w with weights fitted to text: the same tensors and speed as `Int8DynamicInt4Weight`, less error.

    Args:
        group_size: weights of a row that share a scale; a multiple of 32 that divides every layer's width. null: a
            whole row shares one.
        head_bits: 8 (one scale per row) or 4 (groups) for the output head.
        embedding_bits: 8, 4 or 2.
        embedding_group: numbers of an embedding that share a scale; null: all of them.
        damping: share of the mean input power that is added to each input's, against chance correlations (0.01 in
            the paper; little text wants more).
    """

    calibrated = True

    def __init__(
        self,
        group_size: int | None = 32,
        head_bits: Literal[4, 8] = 8,
        embedding_bits: Literal[2, 4, 8] = 8,
        embedding_group: int | None = 32,
        damping: float = 0.01,
    ) -> None:
        if not 0 < damping <= 1:
            raise UserError(f"damping {damping} does not work; use more than 0 and at most 1 (0.01 is usual)")
        linear = LinearGrid(4, group_size)
        self.grids = Grids(linear, head_grid(head_bits, linear), EmbeddingGrid(embedding_bits, embedding_group))
        self.damping = damping

    def plan(self, net: nn.Module) -> None:
        """Raise `UserError` where a layer's width is no multiple of its group."""
        self.grids.check(net)

    @torch.no_grad()
    def quantize(self, part: nn.Module, name: str = "") -> None:
        """Quantize a part that no text passes through: the embedding, a vision encoder.

        Raises:
            UserError: the part is a whole net, which has to come block by block.
        """
        if not name:
            raise UserError("GPTQ fits weights to text, block by block; a net at once needs another quantizer, or text")
        round_part(part, name, self.grids, lambda _: "hqq")

    @torch.no_grad()
    def quantize_block(self, block: nn.Module, name: str, run: Run) -> None:
        """Quantize the linear layers of a block in the order in which they run."""
        self.grids.check(block, name)
        block.float()
        fit_block(block, name, run, self.grids.of_linear, self.damping)

    def bytes(self, net: nn.Module) -> dict[str, int]:
        """As its grids say."""
        return self.grids.bytes(net)

    def describe(self) -> dict[str, Any]:
        """Bits, group sizes and method."""
        return {
            "name": "8da4w",
            "activations": "int8, dynamic, per token",
            "linear": self.grids.linear.describe("gptq") | {"damping": self.damping},
            "head": self.grids.head.describe("gptq" if self.grids.head.bits == 4 else "plain"),
            "embedding": self.grids.embedding.describe(),
        }


def fit_block(block: nn.Module, name: str, run: Run, grid_of: Callable[[str], LinearGrid], damping: float) -> None:
    """Quantize a block's linear layers, stage by stage; those that no text reaches are rounded.

    Args:
        block: fp32.
        name: of the block in the net.
        run: runs the block on its text.
        grid_of: the grid of the linear layer of that name.
        damping: of GPTQ.
    """
    reached = set()
    for stage in stages(block, name, run):
        moment_II = second_moment(stage[0][1], run)
        for full_name, layer in stage:
            grid = grid_of(full_name)
            if grid.bits == 8:  # near enough to need no fitting
                round_linear(layer, grid, "plain")
            else:
                set_linear(layer, *compensated(layer.weight, moment_II, grid, damping), grid)
            reached.add(full_name)
    for full_name, layer in list(linears(block, name)):
        if full_name not in reached:
            round_linear(layer, grid_of(full_name), "hqq")


def stages(block: nn.Module, name: str, run: Run) -> list[list[tuple[str, nn.Linear]]]:
    """The linear layers that run, in order; those that read the very same tensor together."""
    seen: list[tuple[Tensor, list[tuple[str, nn.Linear]]]] = []  # holds the inputs, so that no address is used twice

    def note(full_name: str, layer: nn.Linear, x: Tensor) -> None:
        known = any(layer is other for _, stage in seen for _, other in stage)
        if not known and seen and seen[-1][0] is x:
            seen[-1][1].append((full_name, layer))
        elif not known:
            seen.append((x, [(full_name, layer)]))

    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs, full_name=full_name: note(full_name, module, inputs[0]))
        for full_name, layer in linears(block, name)
    ]
    try:
        next(iter(run()))
    finally:
        for hook in hooks:
            hook.remove()
    return [stage for _, stage in seen]


def second_moment(layer: nn.Linear, run: Run) -> Tensor:
    """Sum over all tokens of input times input, [I, I] fp32."""
    moment_II = torch.zeros(layer.in_features, layer.in_features)

    def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x_NI = inputs[0].reshape(-1, layer.in_features).float()
        moment_II.addmm_(x_NI.t(), x_NI)

    hook = layer.register_forward_pre_hook(add)
    try:
        for _ in run():
            pass
    finally:
        hook.remove()
    return moment_II
