"""A layer's float weight -> torchao's low-bit tensor, which computes eagerly what XNNPACK computes on the device.

Special here: the scales' types. XNNPACK stores the scales of 4-bit weights as bfloat16, those of a whole row too, so a
linear layer gets bfloat16 scales already here and the eager net computes what the device does; an embedding's scales
must stay fp32 (ExecuTorch 1.4 reads bfloat16 ones wrongly, without an error).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
from torch import Tensor, nn

from phi3kit.native_output import silenced
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid, WeightGrid
from phi3kit.quantizers.layers import Grids, embeddings, linears

Method = Literal["hqq", "plain"]
PIECE = 2**18  # numbers that are rounded at once
_TORCHAO_METHODS = {"hqq": "hqq_scale_only", "plain": "affine"}


def round_part(part: nn.Module, name: str, grids: Grids, method_of: Callable[[str], Method]) -> None:
    """Round the linear layers and embeddings of a net, or of one of its parts; the rest becomes fp32.

    Args:
        part: the net or a part of it.
        name: of the part in the net.
        grids: onto which.
        method_of: how the scales of the linear layer of that name are chosen.

    Raises:
        UserError: a layer's width is no multiple of its group; nothing was rounded.
    """
    grids.check(part, name)
    part.float()
    for _, embedding in embeddings(part, name):
        round_embedding(embedding, grids.embedding)
    for full_name, linear in linears(part, name):
        round_linear(linear, grids.of_linear(full_name), method_of(full_name))


def round_linear(layer: nn.Linear, grid: LinearGrid, method: Method) -> None:
    """Replace the weight by the nearest numbers of a grid, some rows at a time: what lies in a processor's cache is
    fitted seven times as fast as a whole matrix, with the same result.

    Args:
        layer: fp32.
        grid: onto which.
        method: how a group's scale is chosen. "hqq" fits it to the weights, "plain" takes it from their largest.
    """
    config = linear_config(grid, method)
    rows = layer.weight.detach().split(max(1, PIECE // layer.in_features))
    pieces = _side_by_side(lambda rows_OI: _rounded(rows_OI, config), rows)
    set_linear(layer, torch.cat([piece.qdata for piece in pieces]), torch.cat([piece.scale for piece in pieces]), grid)


def _side_by_side(work: Callable[[Tensor], Any], pieces: Sequence[Tensor]) -> list[Any]:
    """Of each piece, what the work makes of it. Each has a thread of its own: OpenMP's wait for one another after every
    operation, which on small pieces and a busy machine takes a hundred times as long as the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, pieces))
    finally:
        torch.set_num_threads(threads)


def _rounded(rows_OI: Tensor, config: Any) -> Any:
    """Some rows as torchao's tensor."""
    from torchao.quantization import quantize_

    layer = nn.Linear(rows_OI.shape[1], rows_OI.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(rows_OI, requires_grad=False)
    quantize_(layer, config)
    return layer.weight.detach()


def round_embedding(layer: nn.Embedding, grid: EmbeddingGrid) -> None:
    """Replace an embedding's numbers, fp32, by the nearest ones of a grid."""
    with silenced():
        from torchao.quantization import quantize_

    quantize_(layer, embedding_config(grid), lambda module, name: module is layer)


def linear_config(grid: LinearGrid, method: Method) -> Any:
    """The torchao configuration of a linear layer."""
    with silenced():
        from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig
        from torchao.quantization.quant_api import IntxChooseQParamsAlgorithm

    if isinstance(grid, WeightGrid):
        return IntxWeightOnlyConfig(
            weight_dtype=integer(grid.bits),
            granularity=granularity(grid.group_size),
            intx_choose_qparams_algorithm=IntxChooseQParamsAlgorithm(_TORCHAO_METHODS[method]),
        )
    return Int8DynamicActivationIntxWeightConfig(
        weight_dtype=integer(grid.bits),
        weight_granularity=granularity(grid.group_size),
        weight_scale_dtype=torch.bfloat16 if grid.bits == 4 else None,
        intx_choose_qparams_algorithm=IntxChooseQParamsAlgorithm(_TORCHAO_METHODS[method]),
    )


def embedding_config(grid: EmbeddingGrid) -> Any:
    """The torchao configuration of an embedding."""
    with silenced():
        from torchao.quantization import IntxWeightOnlyConfig

    return IntxWeightOnlyConfig(weight_dtype=integer(grid.bits), granularity=granularity(grid.group_size))


def set_linear(layer: nn.Linear, integers_OI: Tensor, scale_OG: Tensor, grid: LinearGrid) -> None:
    """Give a linear layer integers and scales that were found elsewhere.

    Args:
        layer: O outputs, I inputs.
        integers_OI: int8, within the grid's bits.
        scale_OG: one per row and group.
        grid: which bits and groups they are.
    """
    with silenced():
        from torchao.quantization import IntxUnpackedToInt8Tensor

    weight = IntxUnpackedToInt8Tensor(
        qdata=integers_OI,
        scale=scale_OG,
        zero_point=torch.zeros_like(scale_OG, dtype=torch.int8),
        target_dtype=integer(grid.bits),
        block_size=(1, layer.in_features // scale_OG.shape[1]),
        dtype=torch.float32,
        activation_quantization=None if isinstance(grid, WeightGrid) else "int8_asym_per_token",
    )
    layer.weight = nn.Parameter(weight, requires_grad=False)


def integer(bits: int) -> torch.dtype:
    """torch's type of signed integers of so many bits."""
    return getattr(torch, f"int{bits}")


def granularity(group_size: int | None) -> Any:
    """torchao's way to say how many weights share a scale."""
    from torchao.quantization.granularity import PerAxis, PerGroup

    return PerAxis(0) if group_size is None else PerGroup(group_size)
