"""How large a program is, computed from the net's shapes alone: for nets too large to export here, and for estimates.

A program holds each quantized matrix packed, with its scales; everything else in fp32; and a graph, for which a few
kilobytes a layer are a little too much. `mobile/sizes.md` is made of it.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from phi3kit.families import Quantizer
from phi3kit.model import Decoder
from phi3kit.records import Dims

GRAPH = 30_000  # bytes of instructions and subgraphs a layer
FLOAT = 4


def program_bytes(net: Decoder, quantizer: Quantizer | None, context: int) -> int:
    """Bytes of a net's `.pte`.

    Args:
        net: in its device form; may be on the meta device.
        quantizer: None keeps fp32.
        context: tokens of a conversation, for which cos and sin of every position are in the program.
    """
    matrices = _matrices(net, quantizer)
    rest = sum(p.numel() for name, p in _parameters(net).items() if name.removesuffix(".weight") not in matrices)
    fixed = net.position.fixed_for(context).named_buffers()  # of its matrices, which are equal, a program holds one
    tables = sum(table.numel() for name, table in fixed if not name.endswith("_KK"))
    return sum(matrices.values()) + FLOAT * (rest + tables) + GRAPH * len(net.layers)


def kept_bytes(net: Decoder, quantizer: Quantizer | None) -> int:
    """Bytes of a net's quantized parts on disk: one for every weight, whatever its bits, and its scales."""
    matrices = _matrices(net, quantizer)
    weights = sum(
        p.numel() * (1 if name.removesuffix(".weight") in matrices else FLOAT) for name, p in _parameters(net).items()
    )
    return weights + sum(matrices.values()) // 8


def cache_bytes(dims: Dims, context: int, kind: Literal["float", "int8"]) -> int:
    """Bytes of keys and values in a device's memory, in fp32 or in 8 bits with an fp32 scale and an int8 zero each."""
    number = 2 * dims.n_layers * context * dims.kv_heads
    return number * (FLOAT * dims.head_width if kind == "float" else dims.head_width + FLOAT + 1)


def _matrices(net: Decoder, quantizer: Quantizer | None) -> dict[str, int]:
    return {} if quantizer is None else quantizer.bytes(net)


def _parameters(net: nn.Module) -> dict[str, nn.Parameter]:
    """All of them by name; a tied head counts again, since it is quantized in a way of its own."""
    return dict(net.named_parameters(remove_duplicate=False))
