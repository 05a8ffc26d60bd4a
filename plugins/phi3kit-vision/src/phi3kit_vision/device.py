"""Phi-3-vision's encoder for one image of fixed size: pixels in, rows out, everything between inside the graph.

Special here: the view of the whole image is the HD transform's bicubic interpolation, written as a product with one
matrix for the rows of pixels and one for the columns, which every device can do.

Shapes: Y, X pixels of the enlarged image, S = 1 + y x crops views of V x V pixels, N rows, D hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit_vision.hd import DEVIATION, MEAN

if TYPE_CHECKING:
    from phi3kit_vision.encoder import CLIPVision


@final
class FixedGridVision(nn.Module):
    """`CLIPVision` of one image with a fixed grid of crops.

    Args:
        trained: what it takes over.
        grid: rows and columns of crops.
    """

    def __init__(self, trained: CLIPVision, grid: tuple[int, int]) -> None:
        super().__init__()
        self.trained, self.grid, self.view = trained, grid, trained.view_size
        for name, numbers in (("mean_311", MEAN), ("deviation_311", DEVIATION)):
            self.register_buffer(name, 255 * torch.tensor(numbers)[:, None, None], persistent=False)
        for name, crops in zip(("shrink_VY", "shrink_VX"), grid, strict=True):
            self.register_buffer(name, bicubic(crops * self.view, self.view), persistent=False)

    def forward(self, pixels_3YX: Tensor) -> Tensor:
        rows, columns = self.grid
        pixels_3YX = (pixels_3YX - self.get_buffer("mean_311")) / self.get_buffer("deviation_311")
        whole_3VV = self.get_buffer("shrink_VY") @ pixels_3YX @ self.get_buffer("shrink_VX").T
        tiles = pixels_3YX.unflatten(2, (columns, self.view)).unflatten(1, (rows, self.view))
        crops_C3VV = tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)
        features_SPC = self.trained.features(torch.cat((whole_3VV[None], crops_C3VV)))
        return self.trained.img_projection(self.trained.lay_out(features_SPC, self.grid))[None]


def bicubic(old: int, new: int) -> Tensor:
    """The matrix of a bicubic interpolation, [new, old], as `F.interpolate` does it without aligning corners."""
    basis_1OO1 = torch.eye(old)[None, :, :, None]  # one channel for each place of the old line
    return F.interpolate(basis_1OO1, (new, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T.contiguous()
