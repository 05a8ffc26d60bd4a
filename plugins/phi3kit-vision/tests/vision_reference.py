"""Phi-3-vision written out slowly from its description, to check the fast one: loops, numpy, nothing of phi3kit_vision.

The numbered steps are those of the specification: (1-8) the HD transform, (9-13) the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[numpy.float64]
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def pillow(pixels_YXC: Array, width: int, height: int) -> Array:
    """Pillow's bilinear scaling, which the public processor calls through torchvision."""
    image = Image.fromarray(pixels_YXC.astype(numpy.uint8))
    return numpy.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=numpy.float64)


def triangle(pixels_YXC: Array, width: int, height: int) -> Array:
    """Antialiased bilinear scaling from its definition: a triangle over everything an output pixel covers."""
    return along(along(pixels_YXC, width, 1), height, 0)


def along(pixels: Array, size: int, axis: int) -> Array:
    source = numpy.moveaxis(pixels, axis, 0)
    scale = len(source) / size
    reach = max(scale, 1.0)
    out = numpy.zeros((size, *source.shape[1:]))
    for i in range(size):
        center, total = (i + 0.5) * scale, 0.0
        for j in range(len(source)):
            weight = max(0.0, 1.0 - abs(j + 0.5 - center) / reach)
            out[i] += weight * source[j]
            total += weight
        out[i] /= total
    return numpy.moveaxis(out, 0, axis)


def enlarged(image: Image.Image, crops: int, view: int, resize: Callable[[Array, int, int], Array] = pillow) -> Array:
    """Steps 1-4: the scaled, padded image, [Y, X, 3], 0 to 255."""
    pixels = numpy.asarray(image.convert("RGB"), dtype=numpy.float64)
    lying = pixels.shape[1] < pixels.shape[0]  # step 1
    if lying:
        pixels = pixels.swapaxes(0, 1)
    height, width = pixels.shape[:2]
    ratio, scale = width / height, 1  # step 2
    while (scale + 1) * math.ceil((scale + 1) / ratio) <= crops:
        scale += 1
    new_width = view * scale
    new_height = int(new_width / ratio)
    pixels = resize(pixels, new_width, new_height)  # step 3
    target = math.ceil(new_height / view) * view  # step 4
    top = int((target - new_height) / 2)
    padded = numpy.full((target, new_width, 3), 255.0)
    padded[top : top + new_height] = pixels
    return padded.swapaxes(0, 1) if lying else padded


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, as torch's bicubic."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def bicubic(pixels: Array, size: int, axis: int) -> Array:
    """Step 6, along one axis: no antialiasing, pixel centers at halves, edges repeated."""
    source = numpy.moveaxis(pixels, axis, 0)
    scale = len(source) / size
    out = numpy.zeros((size, *source.shape[1:]))
    for i in range(size):
        place = (i + 0.5) * scale - 0.5
        first = math.floor(place)
        for j in range(first - 1, first + 3):
            out[i] += cubic(place - j) * source[min(max(j, 0), len(source) - 1)]
    return numpy.moveaxis(out, 0, axis)


def views(
    image: Image.Image, crops: int, view: int, resize: Callable[[Array, int, int], Array] = pillow
) -> list[Array]:
    """Steps 1-7: the whole and the crops row by row, each [3, view, view], normalised."""
    pixels = enlarged(image, crops, view, resize)
    for channel in range(3):  # step 5
        pixels[:, :, channel] = (pixels[:, :, channel] / 255 - MEAN[channel]) / DEVIATION[channel]
    pixels = pixels.transpose(2, 0, 1)
    found = [bicubic(bicubic(pixels, view, 1), view, 2)]  # step 6
    for top in range(0, pixels.shape[1], view):
        for left in range(0, pixels.shape[2], view):
            found.append(pixels[:, top : top + view, left : left + view])
    return found


def sequence(features: list[Array], grid: tuple[int, int], sub_GN: Array, glb_GN: Array) -> Array:
    """Steps 10-12: CLIP's features of each view, [P, C], as one sequence of merged vectors, [N, 4 C]."""
    side = int(len(features[0]) ** 0.5)

    def merged(view: int, row: int, column: int) -> Array:
        square = [
            features[view][(2 * row + down) * side + 2 * column + right] for down in range(2) for right in range(2)
        ]
        return numpy.concatenate(square)  # step 10: row in the square, column in it, channel

    half, out = side // 2, []
    for row in range(half * grid[0]):  # step 11: the crops as one map
        for column in range(half * grid[1]):
            crop = 1 + row // half * grid[1] + column // half
            out.append(merged(crop, row % half, column % half))
        out.append(sub_GN)
    out.append(glb_GN)  # step 12
    for row in range(half):
        out += [merged(0, row, column) for column in range(half)]
        out.append(sub_GN)
    return numpy.stack(out)


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def projected(sequence_NM: Array, weights: dict[str, Array]) -> Array:
    """Step 13: Linear, GELU (erf), Linear, on every row."""
    inner = sequence_NM @ weights["0.weight"].T + weights["0.bias"]
    return numpy.vectorize(gelu)(inner) @ weights["2.weight"].T + weights["2.bias"]


def count(grid: tuple[int, int]) -> int:
    """Step 8."""
    return (grid[0] * grid[1] + 1) * 144 + 1 + (grid[0] + 1) * 12
