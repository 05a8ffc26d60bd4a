"""A layer's float weight -> torchao's low-bit tensor, which computes eagerly what XNNPACK computes on the device.

Special here: the scales' types. XNNPACK stores the scales of 4-bit weights as bfloat16, those of a whole row too, so a
linear layer gets bfloat16 scales already here and the eager net computes what the device does; an embedding's scales
must stay fp32 (ExecuTorch 1.4 reads bfloat16 ones wrongly, without an error).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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
    shape = layer.in_features, layer.out_features
    found = _rounded(layer.weight, lambda: nn.Linear(*shape, bias=False, device="meta"), linear_config(grid, method))
    set_linear(layer, found.qdata, found.scale, grid)


def round_embedding(layer: nn.Embedding, grid: EmbeddingGrid) -> None:
    """Replace an embedding's numbers, fp32, by the nearest ones of a grid, some rows at a time: torchao needs several
    copies of what it rounds, and 200,064 ids are 2.5 GB."""
    entries, width = layer.weight.shape
    found = _rounded(layer.weight, lambda: nn.Embedding(entries, width, device="meta"), embedding_config(grid))
    layer.weight = nn.Parameter(found, requires_grad=False)


def _rounded(weight_OI: Tensor, layer: Callable[[], nn.Module], config: Any) -> Any:
    """A matrix as torchao's tensor. What becomes of some rows goes to its place at once: in pieces it would lie among
    all that was needed in between, which could not be given back.

    Args:
        weight_OI: fp32.
        layer: makes one of the kind that the configuration is for.
        config: torchao's.
    """
    weight_OI = weight_OI.detach()
    count = max(1, PIECE // weight_OI.shape[1])

    def of(start: int) -> Any:
        return _quantized(layer(), weight_OI[start : start + count], config)

    def put(start: int, found: Any) -> None:
        for name, tensor in whole.items():
            tensor[start : start + count] = getattr(found, name)

    with _threads() as pool:
        first = of(0)
        parts = {name: getattr(first, name) for name in first.tensor_data_names}
        whole = {name: part.new_empty(len(weight_OI), *part.shape[1:]) for name, part in parts.items()}
        put(0, first)
        for _ in pool.map(lambda start: put(start, of(start)), range(count, len(weight_OI), count)):
            pass
    return type(first)(**whole, **{name: getattr(first, name) for name in first.tensor_attribute_names})


def _quantized(layer: nn.Module, weight: Tensor, config: Any) -> Any:
    """A weight as torchao's tensor."""
    from torchao.quantization import quantize_

    layer.weight = nn.Parameter(weight, requires_grad=False)
    quantize_(layer, config, lambda module, name: module is layer)
    return layer.weight.detach()


@contextlib.contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, none of which has threads of its own: OpenMP's wait for one another after every
    operation, which on small pieces and a busy machine takes a hundred times as long as the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


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
