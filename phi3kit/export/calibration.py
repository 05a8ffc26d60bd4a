"""Text on its way through a net, block by block: what calibrated quantizers and streamed references run on.

Only one block and the text's hidden states need be in memory. Shapes: T tokens of a row, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.families import Quantizer, Rotation
from phi3kit.model import Decoder


def parts(net: Decoder) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a net that hold what is quantized, in the order of a forward pass, under their names."""
    yield "embed_tokens", net.embed_tokens
    if net.vision_embed_tokens is not None:
        yield "vision_embed_tokens", net.vision_embed_tokens
    for number, block in enumerate(net.layers):
        yield f"layers.{number}", block
    yield "lm_head", net.lm_head


@final
class HiddenStates:
    """The inputs of the block that comes next, for each row of a text.

    Args:
        net: only its embedding and its position need be there (the blocks may be on the meta device).
        rows: ids, [T] each.
    """

    def __init__(self, net: Decoder, rows: Sequence[Tensor]) -> None:
        self._rotations = [net.position(torch.arange(len(row_T))[None]) for row_T in rows]
        self.rows_1TD = [net.embed(row_T[None]).float() for row_T in rows]

    def through(self, block: nn.Module) -> Iterator[Tensor]:
        """The block's output for each row, [1, T, D]; the states stay what they are."""
        for x_1TD, rotation in zip(self.rows_1TD, self._rotations, strict=True):
            yield _output(block, x_1TD, rotation)

    def pass_through(self, block: nn.Module) -> None:
        """The states become the block's outputs, row by row."""
        for number, x_1TD in enumerate(self.through(block)):
            self.rows_1TD[number] = x_1TD

    def each(self, part: nn.Module) -> Iterator[Tensor]:
        """What a part without positions, a norm or the head, makes of each row."""
        return (part(x_1TD) for x_1TD in self.rows_1TD)

    def pass_each(self, part: nn.Module) -> None:
        """The states become what a part without positions makes of them."""
        self.rows_1TD = list(self.each(part))


def _output(block: nn.Module, x_1TD: Tensor, rotation: Rotation) -> Tensor:
    return block(x_1TD, rotation, None, None)


@torch.no_grad()
def quantize_net(net: Decoder, quantizer: Quantizer, rows: Iterable[Tensor] = ()) -> None:
    """Quantize a net that is whole in memory; calibrated quantizers see their text pass through the quantized blocks.

    Args:
        net: it becomes fp32 where it is not quantized.
        quantizer: plain ones need no text.
        rows: ids of calibration text, [T] each.

    Raises:
        UserError: the quantizer wants text and there is none, or cannot quantize this net.
    """
    rows = list(rows)
    check_text(quantizer, rows)
    if quantizer.surveys:
        survey_net(net.float(), quantizer, rows)
    quantizer.plan(net)
    if not quantizer.calibrated:
        quantizer.quantize(net)
        return
    net.float()
    quantizer.quantize(net.embed_tokens, "embed_tokens")
    if net.vision_embed_tokens is not None:  # no text passes through it
        quantizer.quantize(net.vision_embed_tokens, "vision_embed_tokens")
    states = HiddenStates(net, rows)
    for number, block in enumerate(net.layers):
        quantizer.quantize_block(block, f"layers.{number}", partial(states.through, block))
        states.pass_through(block)
    states.pass_each(net.norm)
    quantizer.quantize_block(net.lm_head, "lm_head", lambda: states.each(net.lm_head))


def survey_net(net: Decoder, quantizer: Quantizer, rows: Sequence[Tensor]) -> None:
    """Show a quantizer every part of a float net that is whole in memory."""
    quantizer.survey(net.embed_tokens, "embed_tokens", lambda: (net.embed(row_T[None]) for row_T in rows))
    states = HiddenStates(net, rows)
    for number, block in enumerate(net.layers):
        quantizer.survey(block, f"layers.{number}", partial(states.through, block))
        states.pass_through(block)
    quantizer.survey(net.norm, "norm", lambda: states.each(net.norm))
    states.pass_each(net.norm)
    quantizer.survey(net.lm_head, "lm_head", lambda: states.each(net.lm_head))


def check_text(quantizer: Quantizer, rows: Sequence[Tensor]) -> None:
    """Raise `UserError` where a calibrated quantizer has no text."""
    if (quantizer.calibrated or quantizer.surveys) and not rows:
        raise UserError(
            f"{type(quantizer).__name__} fits weights to text and has none; "
            "give `calibration:`, a folder of token chunks or a file of documents or conversations"
        )
