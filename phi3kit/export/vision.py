"""A net that sees, as ExecuTorch's MultimodalRunner calls it: three methods beside the text program.

``vision_encoder`` turns one image into rows, ``token_embedding`` ids into rows, and ``text_decoder`` reads rows after
rows, with a cache of its own (1.4, extension/llm/runner/multimodal_prefiller.cpp). ``forward`` reads text alone, for
apps that know TextLLMRunner. All share their weights in the file. The runner has one shape for images, so the grid of
crops is fixed when a bundle is made, and it does not cut what it reads: an image's rows must fit into the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from phi3kit.errors import UserError
from phi3kit.export.device_cache import DeviceCache
from phi3kit.export.program import Program, trace
from phi3kit.export.stores import STORES
from phi3kit.model import Decoder
from phi3kit.native_output import silenced

CROPS = (2, 2)


@final
class ImageProgram(nn.Module):
    """An image as rows of the residual stream: ``vision_encoder(pixels [3, Y, X]) -> [1, N, D]``.

    Args:
        net: has a `vision`.
        grid: rows and columns of crops.
    """

    def __init__(self, net: Decoder, grid: tuple[int, int]) -> None:
        super().__init__()
        if net.vision_embed_tokens is None:
            raise UserError("the net has no `vision`; leave `crops` out")
        self.encoder, self.scale = net.vision_embed_tokens.on_device(grid), net.embedding_scale
        self.grid = grid
        view = net.vision_embed_tokens.view_size
        self.pixels = (3, grid[0] * view, grid[1] * view)
        self.rows = net.vision_embed_tokens.count(grid)
        self.eval().requires_grad_(False)

    def forward(self, pixels_3YX: Tensor) -> Tensor:
        rows_1ND = self.encoder(pixels_3YX)
        return rows_1ND if self.scale == 1.0 else rows_1ND * self.scale


@final
class TokenProgram(nn.Module):
    """Ids as rows: ``token_embedding(tokens [1, T]) -> [1, T, D]``."""

    def __init__(self, net: Decoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens_1T: Tensor) -> Tensor:
        return self.net.embed(tokens_1T)


@final
class RowProgram(nn.Module):
    """Reads rows from a position on: ``text_decoder(rows [1, T, D], input_pos [1]) -> logits of the last, [1, V]``.

    Args:
        text: the program for text alone; this one has the same net and context, and a cache of its own.
    """

    def __init__(self, text: Program) -> None:
        super().__init__()
        self.net = text.net
        self.cache = DeviceCache(text.net, text.context, STORES[text.cache.kind])

    def forward(self, rows_1TD: Tensor, input_pos_1: Tensor) -> Tensor:
        return self.net.logits(self._hidden(rows_1TD, input_pos_1)[:, -1])

    @torch.no_grad()
    def every_logit(self, rows_1TD: Tensor) -> Tensor:
        """Eagerly: read rows from the beginning; logits after each, [T, V]."""
        with silenced():
            return self.net.logits(self._hidden(rows_1TD, torch.tensor([0])))[0]

    def _hidden(self, rows_1TD: Tensor, input_pos_1: Tensor) -> Tensor:
        start = self.cache.begin(input_pos_1, rows_1TD.shape[1])
        positions_1T = (start + torch.arange(rows_1TD.shape[1]))[None]
        return self.net.through_blocks(rows_1TD, positions_1T, cache=self.cache)


@dataclass(frozen=True)
class VisionPrograms:
    """The three methods of a net that sees.

    Args:
        image: ``vision_encoder``.
        tokens: ``token_embedding``.
        rows: ``text_decoder``.
    """

    image: ImageProgram
    tokens: TokenProgram
    rows: RowProgram

    @classmethod
    def of(cls, text: Program, grid: tuple[int, int] = CROPS) -> VisionPrograms:
        """Beside the text program of a net with `vision`.

        Raises:
            UserError: an image of this grid does not fit into the context.
        """
        image = ImageProgram(text.net, grid)
        if image.rows >= text.context:
            raise UserError(
                f"an image of {grid[0]} x {grid[1]} crops takes {image.rows} of {text.context} tokens of context; "
                f"give a context above {image.rows} or fewer crops"
            )
        return cls(image, TokenProgram(text.net), RowProgram(text))

    def trace(self, text: Program) -> dict[str, ExportedProgram]:
        """All methods as graphs, the text program's `forward` included."""
        length = Dim("tokens", min=1, max=text.context)
        rows_1TD = torch.zeros(1, 3, text.net.dims.hidden_size)
        any_length: dict[str, tuple[nn.Module, tuple[Tensor, ...], Any]] = {
            "vision_encoder": (self.image, (torch.zeros(self.image.pixels),), None),
            "token_embedding": (self.tokens, (torch.tensor([[1, 2, 3]]),), ({1: length},)),
            "text_decoder": (self.rows, (rows_1TD, torch.tensor([0])), ({1: length}, {0: Dim.STATIC})),
        }
        with silenced(), torch.no_grad():
            methods = {
                name: torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
                for name, (module, example, shapes) in any_length.items()
            }
        return {"forward": trace(text), **methods}

    def describe(self) -> dict[str, Any]:
        """What bundle.json says of images: their shape in pixels, their crops, the rows each takes."""
        channels, height, width = self.image.pixels
        return {
            "crops": list(self.image.grid),
            "channels": channels,
            "height": height,
            "width": width,
            "values": "fp32, 0 to 255, red, green, blue; normalised inside",
            "fit": "scaled to fit, white on the shorter side, centred",
            "tokens": self.image.rows,
        }
