"""The HD transform: an image as one small view of the whole and crops of an enlargement of it.

The image is scaled so that its longer side is a whole number of crops and no more than `crops` of them are needed,
padded with white along its shorter side, and cut (Phi-3 Technical Report, section 6.1; the steps and roundings are
those of the public `processing_phi3_v.py`).

Shapes: V = 1 + rows * columns views, each [3, Y, X]; a grid is (rows, columns) of crops.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from phi3kit import UserError

# CLIP's, per channel (openai/clip-vit-large-patch14-336, preprocessor_config.json)
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
SMALLEST_SIDE = 2  # pixels: a line or a dot is no picture
WHITE = (255, 255, 255)


def count_rows(grid: tuple[int, int], side: int) -> int:
    """Rows of the residual stream an image takes: `side` x `side` of each view, a separator after each row of the
    tiled crops and of the whole view, and one between the two.

    With 12 x 12 of a view this is (rows * columns + 1) * 144 + 1 + (rows + 1) * 12.
    """
    rows, columns = grid
    return (rows * columns + 1) * side * side + 1 + (rows + 1) * side


class Fit(NamedTuple):
    """How an image of some size is enlarged and padded, all in pixels (width, height) of the image as it stands."""

    resized: tuple[int, int]
    padded: tuple[int, int]
    before: tuple[int, int]  # white on the left and on top; the rest goes on the right and below


@final
class HDTransform:
    """Cuts images into normalised views.

    Args:
        crops: the most crops beside the view of the whole: 16 for a single image, 4 for several
            (Phi-3.5-vision's model card).
        view: side of a view, in pixels.
        patch: side of the vision encoder's patches, in pixels; 2 x 2 of them make one row.
    """

    def __init__(self, crops: int = 16, view: int = 336, patch: int = 14) -> None:
        if crops < 1:
            raise UserError(f"crops is {crops}; at least 1 is needed beside the view of the whole image")
        if view % (2 * patch):
            raise UserError(f"a view of {view} pixels is not cut evenly by 2 x 2 patches of {patch}; change one")
        self.crops, self.view, self.patch = crops, view, patch

    def fit(self, size: tuple[int, int]) -> Fit:
        """The enlargement of an image of this (width, height). Raises `UserError` where it has no area to show."""
        if min(size) < SMALLEST_SIDE:
            raise UserError(f"an image of {size[0]} x {size[1]} pixels shows nothing; give at least 2 x 2")
        if size[0] < size[1]:  # a portrait image goes through the same steps lying down
            return Fit(*((down, across) for across, down in self.fit((size[1], size[0]))))
        ratio = size[0] / size[1]
        scale = max(k for k in range(1, self.crops + 1) if k * math.ceil(k / ratio) <= self.crops)
        width = self.view * scale
        height = int(width / ratio)
        if not height:
            raise UserError(f"an image of {size[0]} x {size[1]} pixels is too long for its width; cut it in parts")
        padded = math.ceil(height / self.view) * self.view
        return Fit((width, height), (width, padded), (0, (padded - height) // 2))

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of crops of an image of this (width, height)."""
        width, height = self.fit(size).padded
        return height // self.view, width // self.view

    def count(self, size: tuple[int, int]) -> int:
        """How many rows of the residual stream an image of this (width, height) takes."""
        return count_rows(self.grid(size), self.view // self.patch // 2)

    def __call__(self, image: Image.Image) -> tuple[Tensor, tuple[int, int]]:
        """(views [V, 3, Y, X] fp32, the whole one first and then the crops row by row; grid)."""
        pixels_CYX = normalised(self.enlarged(image))
        whole_1CYX = F.interpolate(pixels_CYX[None], (self.view, self.view), mode="bicubic", align_corners=False)
        rows, columns = self.grid(image.size)
        tiles = pixels_CYX.unflatten(2, (columns, self.view)).unflatten(1, (rows, self.view))
        crops_VCYX = tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)
        return torch.cat((whole_1CYX, crops_VCYX)), (rows, columns)

    def enlarged(self, image: Image.Image) -> Image.Image:
        """The image in RGB, scaled (bilinear, antialiased) and padded with white.

        A portrait image is transposed first and back afterwards, as the public processor does.
        """
        fit = self.fit(image.size)
        image = image.convert("RGB")
        canvas = Image.new("RGB", fit.padded, WHITE)
        if image.width < image.height:
            lying = image.transpose(Image.Transpose.TRANSPOSE).resize(fit.resized[::-1], Image.Resampling.BILINEAR)
            image = lying.transpose(Image.Transpose.TRANSPOSE)
        else:
            image = image.resize(fit.resized, Image.Resampling.BILINEAR)
        canvas.paste(image, fit.before)
        return canvas


def normalised(image: Image.Image) -> Tensor:
    """Pixels as CLIP wants them, [3, Y, X] fp32."""
    bytes_YXC = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
    mean_C11, deviation_C11 = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, DEVIATION))
    return (bytes_YXC.permute(2, 0, 1).float() / 255 - mean_C11) / deviation_C11
