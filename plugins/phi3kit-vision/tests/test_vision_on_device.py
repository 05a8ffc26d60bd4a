"""The encoder for one fixed grid of crops sees what the trained one sees."""

from __future__ import annotations

import pytest
import torch
from phi3kit_vision.device import bicubic
from phi3kit_vision.encoder import CLIPVision
from phi3kit_vision.hd import HDTransform
from PIL import Image

from phi3kit.records import Pictures
from phi3kit.testing import tiny

TOWER = {"hidden": 32, "layers": 2, "heads": 2, "intermediate": 64, "image": 16, "patch": 4, "init_std": 0.2}


def picture(width: int, height: int) -> Image.Image:
    numbers = torch.randint(256, (height * width * 3,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Image.frombytes("RGB", (width, height), numbers.numpy().tobytes())


def encoder() -> CLIPVision:
    torch.manual_seed(0)
    built = CLIPVision(tiny.dims(), **TOWER).eval()
    for separator in (built.glb_GN, built.sub_GN):
        torch.nn.init.normal_(separator)
    return built.requires_grad_(False)


@pytest.mark.parametrize(("crops", "size"), [(4, (40, 33)), (4, (90, 12)), (1, (20, 20)), (6, (25, 60))])
def test_rows_are_those_of_the_hd_transform(crops, size):
    hd, vision, image = HDTransform(crops, view=16, patch=4), encoder(), picture(*size)
    views, grid = hd(image)
    wanted_ND = vision(Pictures(views, [grid]))
    enlarged = hd.enlarged(image)
    pixels_3YX = torch.frombuffer(bytearray(enlarged.tobytes()), dtype=torch.uint8)
    pixels_3YX = pixels_3YX.view(enlarged.height, enlarged.width, 3).permute(2, 0, 1).float()
    assert pixels_3YX.shape == (3, 16 * grid[0], 16 * grid[1])
    got_1ND = vision.on_device(grid)(pixels_3YX)
    assert got_1ND.shape == (1, vision.count(grid), 32)
    torch.testing.assert_close(got_1ND[0], wanted_ND, atol=1e-4, rtol=1e-4)


def test_the_matrix_interpolates():
    line = torch.randn(3, 48, 7)
    wanted = torch.nn.functional.interpolate(line[None], (16, 7), mode="bicubic", align_corners=False)[0]
    torch.testing.assert_close(bicubic(48, 16) @ line, wanted, atol=1e-5, rtol=1e-5)
