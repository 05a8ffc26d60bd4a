"""Laws of `VisionEncoder`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from phi3kit.families import VisionEncoder
from phi3kit.records import Dims, Pictures
from phi3kit.testing import tiny
from phi3kit.testing.law import random_normal, require, require_close

GRIDS = [(1, 1), (2, 1), (1, 3)]


@torch.no_grad()
def check_vision_encoder(build: Callable[[Dims], VisionEncoder]) -> None:
    """Every law of `VisionEncoder`: rows as counted, of the net's width, each image's alone.

    Args:
        build: makes an encoder, as ``build(dims)``; give it small sizes.
    """
    dims = tiny.dims()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build(dims).eval()
    alone = [encoder(_picture(encoder, number)) for number in range(len(GRIDS))]
    for grid, rows_ND in zip(GRIDS, alone, strict=True):
        law = "an encoder gives as many rows as it counts, of the net's width"
        wanted = [encoder.count(grid), dims.hidden_size]
        require(list(rows_ND.shape) == wanted, law, f"a grid of {grid} gave {list(rows_ND.shape)}, not {wanted}")
        require(bool(rows_ND.isfinite().all()), "rows of finite pixels are finite", f"a grid of {grid}")
    together = Pictures(torch.cat([_picture(encoder, n).pixels_VCYX for n in range(len(GRIDS))]), GRIDS)
    law = "an image's rows do not depend on the other images"
    require_close(encoder(together), torch.cat(alone), 1e-4, law, "three images together against one by one")
    other = Pictures(_picture(encoder, 0).pixels_VCYX.flip(0), GRIDS[:1])
    change = float((encoder(other) - alone[0]).abs().max())
    require(change > 1e-6, "an encoder sees its views", f"other pixels changed the rows by {change:.3g}")


def _picture(encoder: VisionEncoder, number: int) -> Pictures:
    rows, columns = GRIDS[number]
    pixels_VCYX = random_normal(1 + rows * columns, 3, encoder.view_size, encoder.view_size, seed=number)
    return Pictures(pixels_VCYX, [GRIDS[number]])
