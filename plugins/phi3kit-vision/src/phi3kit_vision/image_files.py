"""Image files: their size without reading them, their pixels, and one clear line about those that cannot be read.

Like the public processor, images are taken as they are stored: EXIF's orientation is not applied, transparency is
dropped, and of an animation the first frame counts.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import final

from PIL import Image, UnidentifiedImageError

from phi3kit import UserError

MOST_PIXELS = 178_956_970  # Pillow's own limit for what is surely a decompression bomb (2 x Image.MAX_IMAGE_PIXELS)


@final
class BadImage(UserError):
    """An image that cannot be used. Keeps its one line when a data loader's worker hands it on with a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message.strip().rpartition(f"{type(self).__name__}: ")[2])


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the file's header. Raises `BadImage` naming the file."""
    with opened(path) as image:
        return image.size


def read_image(path: Path) -> Image.Image:
    """The image in RGB. Raises `BadImage` naming the file where it is damaged or cut short."""
    try:
        with opened(path) as image:
            return in_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"{path} is damaged or cut short ({error}); replace it") from error


def opened(path: Path) -> Image.Image:
    """The file, its header read."""
    try:
        if not path.stat().st_size:
            raise BadImage(f"{path} is empty (0 bytes); replace it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error below it is what counts
            return Image.open(path)
    except UnidentifiedImageError as error:
        raise BadImage(f"{path} is no image that Pillow {_version()} can read; convert it to PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"{path} has more than {MOST_PIXELS:,} pixels; scale it down first") from error
    except OSError as error:
        raise BadImage(f"cannot read the image {path}: {error.strerror or error}") from error


def in_rgb(image: Image.Image) -> Image.Image:
    """The pixels in RGB; 16-bit grey is brought to 8 bits, which Pillow alone would clip."""
    if image.mode.startswith("I;16"):
        return image.point(lambda grey: grey / 256).convert("L").convert("RGB")
    return image.convert("RGB")


def _version() -> str:
    import PIL

    return PIL.__version__
