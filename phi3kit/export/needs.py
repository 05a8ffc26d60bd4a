"""What an export asks of its backend, known before anything is quantized, and whether the backend can do it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast, final

import torch
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.export.device import for_device
from phi3kit.export.stores import CacheType
from phi3kit.families import Backend, FixedCache, Heads, Need, Quantizer, Rotation
from phi3kit.model.decoder import Block, Decoder
from phi3kit.model.load import build_net


def check(backend: Backend, needed: Iterator[Need]) -> None:
    """Raise `UserError` naming the first thing needed that a backend cannot do."""
    for need in needed:
        if need in backend.cannot:
            raise UserError(f"{type(backend).__name__} {backend.cannot[need]}")


def needs(
    section: dict[str, Any],
    quantizer: Quantizer | None,
    *,
    context: int,
    cache: CacheType,
    at_end: Literal["fail", "slide"],
) -> Iterator[Need]:
    """What an export asks of its backend.

    Args:
        section: the ``net:`` of a recipe.
        quantizer: None keeps fp32.
        context: tokens of a conversation.
        cache: how keys and values are kept.
        at_end: what becomes of a conversation that reaches the context.
    """
    net = build_net(section, "meta")
    if net.vision_embed_tokens is not None:
        yield "vision"
    if quantizer is not None:
        yield "weights alone" if quantizer.weights_alone else "rounded inputs"
    if at_end == "slide":
        yield "slide"
    if cache == "int8":
        yield "int8 cache"
    if reach(net) < context:
        yield "windows"


@torch.no_grad()
def reach(net: Decoder) -> int:
    """In conversations of up to so many tokens each token sees all before it. The net, on the meta device, takes its
    device form."""
    for_device(net)
    asks, x_11D = _Asks(), torch.zeros(1, 1, net.dims.hidden_size, device="meta")
    rotation = net.position.fixed_for(1)(torch.zeros(1, 1, dtype=torch.int64))
    on_meta = Rotation(rotation.cos_BTR.to("meta"), rotation.sin_BTR.to("meta"))
    for block in net.layers:
        cast(Block, block).self_attn(x_11D, on_meta, None, asks)
    return asks.reach


@final
class _Asks(FixedCache):
    """Holds nothing, and hears how far attention looks."""

    reach = sys.maxsize

    @property
    def length(self) -> int:
        return 0

    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        return k_BTGK, v_BTGK

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        self.reach = min(self.reach, window or sys.maxsize)
        return q_BTHK

    def attend_seen(self, layer: int, sets: Sequence[Heads], scale: float) -> list[Tensor]:
        self.reach = min(self.reach, *(heads.rule.reach for heads in sets))
        return [heads.q_BTHK for heads in sets]
