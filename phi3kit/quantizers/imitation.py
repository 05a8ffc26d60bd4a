"""Training through the rounding: layers that compute what their quantized selves will, with gradients.

torchao's fake quantization (torchao.quantization.qat): weights and activations are rounded in the forward pass, and the
gradient passes as if they had not been (straight-through estimator, Bengio et al., arXiv 1308.3432). Special here: the
scales have the types that XNNPACK stores, so that nothing changes when the net is quantized in the end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from phi3kit.native_output import silenced
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid
from phi3kit.quantizers.layers import Grids, is_head
from phi3kit.quantizers.low_bit import granularity, integer


def imitate(net: nn.Module, grids: Grids) -> None:
    """Swap linear layers and embeddings for ones that round, in place, once; parameters stay the same objects.

    Args:
        net: to be trained in fp32.
        grids: what "plain" quantization will round onto.

    Raises:
        UserError: a layer's width is no multiple of its group.
    """
    with silenced():
        from torchao.quantization import quantize_
        from torchao.quantization.qat import FakeQuantizedEmbedding, FakeQuantizedLinear, QATConfig

    grids.check(net)
    rounds = (FakeQuantizedLinear, FakeQuantizedEmbedding)

    def prepare(kind: type[nn.Module], head: bool, activation: Any, weight: Any) -> None:
        config = QATConfig(activation_config=activation, weight_config=weight, step="prepare")
        quantize_(net, config, lambda m, name: isinstance(m, kind) and is_head(name) == head and type(m) not in rounds)

    prepare(nn.Linear, False, _activation(), _weight(grids.linear))
    prepare(nn.Linear, True, _activation(), _weight(grids.head))
    prepare(nn.Embedding, False, None, _weight(grids.embedding))


def _activation() -> Any:
    from torchao.quantization.qat import IntxFakeQuantizeConfig

    return IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)


def _weight(grid: LinearGrid | EmbeddingGrid) -> Any:
    from torchao.quantization.qat import IntxFakeQuantizeConfig

    bfloat16 = isinstance(grid, LinearGrid) and grid.bits == 4
    return IntxFakeQuantizeConfig(
        integer(grid.bits),
        granularity(grid.group_size),
        scale_precision=torch.bfloat16 if bfloat16 else torch.float32,
    )
