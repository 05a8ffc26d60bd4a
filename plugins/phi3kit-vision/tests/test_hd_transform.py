"""The HD transform against a slow reference, the published token counts, and real pictures."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import pytest
import torch
import vision_reference as reference
from phi3kit_vision.hd import MEAN, HDTransform, normalised
from phi3kit_vision.image_files import image_size, read_image
from PIL import Image

from phi3kit import UserError

# (width, height), crops -> resized, padded, white before, grid, rows: the specification's vectors, section 2.5
VECTORS = [
    ((336, 336), 4, (672, 672), (672, 672), (0, 0), (2, 2), 757),
    ((336, 336), 16, (1344, 1344), (1344, 1344), (0, 0), (4, 4), 2509),
    ((640, 480), 16, (1344, 1008), (1344, 1008), (0, 0), (3, 4), 1921),
    ((640, 480), 4, (672, 504), (672, 672), (0, 84), (2, 2), 757),
    ((1920, 1080), 16, (1680, 945), (1680, 1008), (0, 31), (3, 5), 2353),
    ((1080, 1920), 16, (945, 1680), (1008, 1680), (31, 0), (5, 3), 2377),
    ((1000, 100), 16, (3360, 336), (3360, 336), (0, 0), (1, 10), 1609),
    ((8000, 50), 16, (5376, 33), (5376, 336), (0, 151), (1, 16), 2473),
    ((50, 8000), 16, (33, 5376), (336, 5376), (151, 0), (16, 1), 2653),
]


@pytest.mark.parametrize(("size", "crops", "resized", "padded", "before", "grid", "rows"), VECTORS)
def test_published_counts(size, crops, resized, padded, before, grid, rows):
    hd = HDTransform(crops)
    assert hd.fit(size) == (resized, padded, before)
    assert hd.grid(size) == grid
    assert hd.count(size) == rows == reference.count(grid)


def test_the_number_of_crops_never_exceeds_the_limit():
    draw = random.Random(0)
    for _ in range(2000):
        crops = draw.randint(1, 25)
        rows, columns = HDTransform(crops).grid((draw.randint(30, 5000), draw.randint(30, 5000)))
        assert 1 <= rows * columns <= crops


@pytest.mark.parametrize(("size", "message"), [
    ((1, 1), "an image of 1 x 1 pixels shows nothing; give at least 2 x 2"),
    ((1, 900), "an image of 1 x 900 pixels shows nothing; give at least 2 x 2"),
    ((60000, 2), "an image of 60000 x 2 pixels is too long for its width; cut it in parts"),
])  # fmt: skip
def test_what_cannot_be_seen_is_refused(size, message):
    with pytest.raises(UserError, match=message):
        HDTransform().fit(size)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="a view of 30 pixels is not cut evenly by 2 x 2 patches of 7"):
        HDTransform(4, 30, 7)
    with pytest.raises(UserError, match="crops is 0; at least 1 is needed"):
        HDTransform(0)


def noise(width: int, height: int) -> Image.Image:
    """A picture with structure at every scale, so that a wrong filter or offset shows."""
    draw = numpy.random.default_rng(width * height)
    coarse = Image.fromarray(draw.integers(0, 256, (5, 7, 3), dtype=numpy.uint8)).resize((width, height))
    fine = draw.integers(-40, 40, (height, width, 3))
    return Image.fromarray((numpy.asarray(coarse) + fine).clip(0, 255).astype(numpy.uint8))


@pytest.mark.parametrize("size", [(40, 33), (33, 40), (90, 21), (21, 90), (12, 11), (28, 28)])
@pytest.mark.parametrize("crops", [1, 4, 6])
def test_views_equal_the_slow_reference(size, crops):
    image = noise(*size)
    views_VCYX, (rows, columns) = HDTransform(crops, 28, 7)(image)
    wanted = reference.views(image, crops, 28)
    assert len(views_VCYX) == len(wanted) == 1 + rows * columns
    torch.testing.assert_close(views_VCYX.double(), torch.from_numpy(numpy.stack(wanted)), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("size", "grid"), [((7000, 5000), (3, 4)), ((2, 2), (4, 4)), ((3, 500), (16, 1))])
def test_huge_and_tiny_images(size, grid):
    views_VCYX, got = HDTransform(16)(Image.new("RGB", size, (200, 30, 90)))
    assert got == grid
    assert views_VCYX.shape == (1 + grid[0] * grid[1], 3, 336, 336)
    assert bool(views_VCYX.isfinite().all())


@pytest.mark.parametrize("size", [(40, 33), (21, 90)])
def test_scaling_is_antialiased_bilinear(size):
    """Against the filter's definition; Pillow rounds to whole levels after each of its two passes."""
    image = noise(*size)
    got = numpy.asarray(HDTransform(4, 28, 7).enlarged(image), dtype=float)
    wanted = reference.enlarged(image, 4, 28, reference.triangle)
    assert got.shape == wanted.shape
    assert abs(got - wanted).max() <= 1.1
    assert abs(got - wanted).mean() < 0.35


def test_the_whole_is_seen_after_normalising():
    """White padding is where CLIP's mean puts it, in crops and in the whole."""
    views_VCYX, grid = HDTransform(4, 28, 7)(Image.new("RGB", (90, 12), "white"))
    assert grid == (1, 4)
    white_C = normalised(Image.new("RGB", (1, 1), "white"))[:, 0, 0]
    assert torch.allclose(white_C, (1 - torch.tensor(MEAN)) / torch.tensor(reference.DEVIATION))
    torch.testing.assert_close(views_VCYX, white_C[None, :, None, None].expand_as(views_VCYX))


REAL = {
    # file: (width, height), crops -> grid, rows by the formula
    "charts/qat_diagram.png": ((3506, 984), 16, (2, 7), 2197),
    "charts/exceltable.png": ((487, 206), 4, (1, 2), 457),
    "openstax/Figure_07_03_09a.jpg": ((750, 1227), 16, (4, 3), 1933),
    "openstax/Figure_02_04_02a.jpg": ((573, 175), 16, (2, 6), 1909),
    "openstax/Figure_04_07_07.jpg": ((225, 368), 4, (2, 2), 757),
    "llama_cute.jpg": ((1024, 1024), 16, (4, 4), 2509),
}


@pytest.mark.parametrize("name", REAL)
def test_real_pictures(name: str, shared_data: Path):
    size, crops, grid, rows = REAL[name]
    file = shared_data / "images" / name
    assert image_size(file) == size
    hd = HDTransform(crops)
    image = read_image(file)
    views_VCYX, got = hd(image)
    assert got == grid
    assert hd.count(size) == rows
    assert views_VCYX.shape == (1 + grid[0] * grid[1], 3, 336, 336)
    wanted = reference.views(image, crops, 336)
    for view_CYX, expected in zip(views_VCYX, wanted, strict=True):
        torch.testing.assert_close(view_CYX.double(), torch.from_numpy(expected.copy()), atol=5e-5, rtol=0)


def test_every_real_picture_has_its_views(shared_data: Path):
    files = sorted(p for p in (shared_data / "images").rglob("*") if p.suffix in (".jpg", ".png"))
    assert len(files) > 20
    hd = HDTransform(4)
    for file in files:
        views_VCYX, grid = hd(read_image(file))
        assert hd.count(image_size(file)) == reference.count(grid)
        assert len(views_VCYX) == 1 + grid[0] * grid[1] <= 5
        assert bool(views_VCYX.isfinite().all())
