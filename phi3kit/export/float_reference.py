"""The float net's answers, and where a quantized one departs from them, with one float part in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from phi3kit.export.calibration import HiddenStates
from phi3kit.export.device import for_device
from phi3kit.model import Decoder
from phi3kit.model.load import build_net
from phi3kit.model.source import Source
from phi3kit.quantizers.sensitivity import relative_change


@torch.no_grad()
def float_logits(source: Source, rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """The float net's logits of each row, [T, V]; the net is read once, when the first is asked for.

    Args:
        source: the weights.
        rows: ids, [T] each.
    """
    net = build_net(source.section, "meta")
    states = _begin(source, net, rows)
    for number in range(len(net.layers)):
        block = read_part(source, net, f"layers.{number}")
        states.pass_through(block)
        block.to("meta")
    states.pass_each(read_part(source, net, "norm"))
    read_part(source, net, "lm_head")
    for x_1TD in states.rows_1TD:
        with torch.no_grad():
            yield net.logits(x_1TD)[0]


@torch.no_grad()
def block_errors(source: Source, quantized: Decoder, rows: Sequence[Tensor]) -> list[float]:
    """|quantized - float| / |float| of each block's output, both reading what the float net's blocks before it say.

    It says how well a net of random weights is quantized, whose next tokens mean nothing.

    Args:
        source: the float weights.
        quantized: the same net, quantized.
        rows: ids, [T] each.
    """
    net, errors = build_net(source.section, "meta"), []
    states = _begin(source, net, rows)
    for number, other in enumerate(quantized.layers):
        block = read_part(source, net, f"layers.{number}")
        errors.append(relative_change(states.through(block), states.through(other)) ** 0.5)
        states.pass_through(block)
        block.to("meta")
    return errors


def read_part(source: Source, net: Decoder, name: str) -> nn.Module:
    """A part of a net with its numbers, in fp32, in the form a device computes."""
    part = net.get_submodule(name)
    numbers = {own: source.tensor(f"{name}.{own}").float() for own in part.state_dict()}
    part.load_state_dict(numbers, assign=True)
    for_device(part)
    source.forget()
    return part


def _begin(source: Source, net: Decoder, rows: Sequence[Tensor]) -> HiddenStates:
    read_part(source, net, "embed_tokens")
    return HiddenStates(net, rows)
