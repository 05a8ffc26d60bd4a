"""Images of every mode become RGB; those that cannot be used get one clear line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy
import pytest
from phi3kit_vision.image_files import BadImage, image_size, read_image
from PIL import Image


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    across = numpy.linspace(0, 255, width, dtype=numpy.uint8)
    pixels = numpy.stack([numpy.tile(across, (height, 1))] * 3, axis=-1)
    pixels[..., 1] = 90
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("mode", "suffix"), [
    ("RGB", "png"), ("RGBA", "png"), ("P", "png"), ("L", "png"), ("LA", "png"), ("1", "png"), ("RGB", "bmp"),
    ("CMYK", "jpg"), ("L", "jpg"), ("RGB", "webp"), ("P", "gif"),
])  # fmt: skip
def test_every_mode_becomes_rgb(mode: str, suffix: str, tmp_path: Path):
    file = tmp_path / f"image.{suffix}"
    gradient().convert(mode).save(file)
    assert image_size(file) == (40, 30)
    image = read_image(file)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    wanted = numpy.asarray(Image.open(file).convert("RGB"))
    assert (numpy.asarray(image) == wanted).all()
    assert numpy.asarray(image)[:, -5:, 0].mean() > numpy.asarray(image)[:, :5, 0].mean() + 50


def test_sixteen_bit_grey_keeps_its_shades(tmp_path: Path):
    grey = numpy.tile(numpy.linspace(0, 65535, 40, dtype=numpy.uint16), (30, 1))
    Image.fromarray(grey).save(tmp_path / "x-ray.png")
    pixels = numpy.asarray(read_image(tmp_path / "x-ray.png"))
    assert pixels.shape == (30, 40, 3)
    assert abs(pixels[0, :, 0].astype(int) - grey[0] // 256).max() <= 1


def test_orientation_is_left_as_stored_and_transparency_dropped_as_the_public_processor_does(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6  # Orientation: turn by 90 degrees to show it
    gradient().save(tmp_path / "phone.jpg", exif=exif)
    assert read_image(tmp_path / "phone.jpg").size == image_size(tmp_path / "phone.jpg") == (40, 30)
    glass = gradient().convert("RGBA")
    glass.putalpha(0)
    glass.save(tmp_path / "glass.png")
    assert (numpy.asarray(read_image(tmp_path / "glass.png")) == numpy.asarray(gradient())).all()


def test_unusable_files_get_one_line(tmp_path: Path):
    whole = tmp_path / "whole.png"
    noise = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=numpy.uint8))
    noise.save(whole)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "folder.png").mkdir()
    noise.save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:1000])
    wrong = bytearray(whole.read_bytes())
    wrong[1000] ^= 255
    (tmp_path / "flipped.png").write_bytes(wrong)
    said = {
        "empty.png": r"empty.png is empty \(0 bytes\); replace it",
        "text.png": r"text.png is no image that Pillow [\d.]+ can read; convert it to PNG or JPEG",
        "folder.png": "cannot read the image .*folder.png: Is a directory",
        "absent.png": "cannot read the image .*absent.png: No such file or directory",
        "cut.png": r"cut.png is damaged or cut short \(.*\); replace it",
        "cut.jpg": r"cut.jpg is damaged or cut short \(.*\); replace it",
        "flipped.png": r"flipped.png is damaged or cut short \(.*\); replace it",
    }
    for name, message in said.items():
        with pytest.raises(BadImage, match=message) as error:
            pytest.fail(f"{name} gave {read_image(tmp_path / name)}")
        assert "\n" not in str(error.value)


def test_a_decompression_bomb_is_refused_unread(tmp_path: Path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    for look in (image_size, read_image):
        with pytest.raises(BadImage, match=r"bomb.png has more than 178,956,970 pixels; scale it down first"):
            look(tmp_path / "bomb.png")


def test_the_line_survives_a_loader_worker():
    """torch builds the worker's error anew from the text of the traceback."""
    handed_on = BadImage(
        "Caught BadImage in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 3\nphi3kit_vision.image_files.BadImage: a/cut.png is damaged\n'
    )
    assert str(handed_on) == str(BadImage("a/cut.png is damaged")) == "a/cut.png is damaged"
