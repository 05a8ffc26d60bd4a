"""Files packed with gzip or zstandard as streams that end where the file breaks off, and say so.

Python's own readers lose what they had unpacked when a file breaks off (gzip), say nothing at all of it, and stop
after the first of several frames (zstandard).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, final

from phi3kit.errors import UserError

AT_ONCE = 2**16  # bytes read of the packed file
GZIP = 16 + zlib.MAX_WBITS  # zlib's number for a gzip header and its checksum (zlib.h, inflateInit2)


@final
class Unpacked(io.RawIOBase):
    """What a packed file holds, all its frames one after the other.

    `broken` says why it ended before the file did, once it has; None where it did not.

    Args:
        raw: the packed file.
        unpacker: makes what unpacks one frame.
        damage: what that raises on bytes it cannot unpack.
    """

    def __init__(self, raw: BinaryIO, unpacker: Callable[[], Any], damage: type[Exception]) -> None:
        self.raw, self.unpacker, self.damage = raw, unpacker, damage
        self.broken: str | None = None
        self._frame: Any = None
        self._rest = b""  # packed, of the frames to come
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """That it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there is something."""
        while not self._ready and self.broken is None and self._go_on():
            pass
        n = min(len(buffer), len(self._ready))
        buffer[:n], self._ready = self._ready[:n], self._ready[n:]
        return n

    def _go_on(self) -> bool:
        """Unpack a little more; False at the end of the file."""
        packed = self._rest or self.raw.read(AT_ONCE)
        self._rest = b""
        if not packed:
            if self._frame is not None:
                self.broken = "it breaks off"
            return False
        if self._frame is None:
            packed = packed.lstrip(b"\0")  # that some programs fill blocks with
            if not packed:
                return True
            self._frame = self.unpacker()
        try:
            self._ready = memoryview(self._frame.decompress(packed))
        except self.damage as error:
            self.broken = f"it is damaged ({error})"
        else:
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        return True


def opened(raw: io.BufferedReader, file: Path) -> tuple[io.BufferedReader, Unpacked | None]:
    """A file to read lines of, unpacked by its suffix; and what unpacks it, if anything does."""
    if file.suffix == ".gz":
        unpacked = Unpacked(raw, lambda: zlib.decompressobj(GZIP), zlib.error)
    elif file.suffix == ".zst":
        try:
            import zstandard
        except ImportError as error:
            raise UserError(f"{file}: .zst needs the package zstandard; pip install zstandard") from error
        unpacked = Unpacked(raw, lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)
    else:
        return raw, None
    return io.BufferedReader(unpacked, AT_ONCE), unpacked
