"""A float net, read part by part, shown to a quantizer that wants to see all of it before it decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from phi3kit.export.calibration import HiddenStates, check_text
from phi3kit.export.float_reference import read_part
from phi3kit.families import Quantizer
from phi3kit.model.load import build_net
from phi3kit.model.source import Source


@torch.no_grad()
def survey(source: Source, quantizer: Quantizer, rows: Sequence[Tensor]) -> None:
    """Read every part, run the text through it, and let the quantizer look. One part is in memory at a time.

    Args:
        source: where the float numbers are.
        quantizer: one that surveys; its `survey` is called for each part.
        rows: ids of the text, [T] each.

    Raises:
        UserError: there is no text.
    """
    check_text(quantizer, rows)
    net = build_net(source.section, "meta")
    embedding = read_part(source, net, "embed_tokens")
    quantizer.survey(embedding, "embed_tokens", lambda: (net.embed(row_T[None]) for row_T in rows))
    states = HiddenStates(net, rows)
    for number in range(len(net.layers)):
        name = f"layers.{number}"
        block = read_part(source, net, name)
        quantizer.survey(block, name, partial(states.through, block))
        states.pass_through(block)
        block.to("meta")
    for name in ("norm", "lm_head"):
        part = read_part(source, net, name)
        quantizer.survey(part, name, partial(_each, states, part))
        if name == "norm":
            states.pass_each(part)


def _each(states: HiddenStates, part: nn.Module) -> Iterator[Tensor]:
    return states.each(part)
