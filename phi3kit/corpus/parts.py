"""Parts of large files: where each begins, so that several ranks read one file. Found by one quick look through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

from phi3kit.records import Document

AT_ONCE = 2**20  # bytes in memory


class Part(NamedTuple):
    """Consecutive records of a file: lines, rows, pages.

    `start` is where the first is (a byte, counted in what a packed file holds; a row group), `before` how many records
    come before it, `records` how many there are.
    """

    start: int
    before: int
    records: int


class Divisible(ABC):
    """A reader whose files can be read in parts. All parts, one after the other, give what the whole file gives."""

    @abstractmethod
    def parts(self, file: Path, bytes_at_once: int) -> list[Part]:
        """A file in parts of about so many bytes. Raises `UserError` naming a file that is broken."""

    @abstractmethod
    def read_part(self, name: str, file: Path, part: Part) -> Iterator[Document]:
        """The documents of one part, under the ids they have in the whole."""


def parts_of_lines(stream: BufferedIOBase | Any, bytes_at_once: int) -> list[Part]:
    """Lines, `bytes_at_once` of them or a little more in each part."""
    parts: list[Part] = []
    start = before = lines = at = 0
    ended = True  # whether the last line so far has its end
    while block := stream.read(AT_ONCE):
        counted = 0  # bytes of the block whose lines are counted
        while start + bytes_at_once <= at + len(block):
            cut = block.find(b"\n", max(counted, start + bytes_at_once - at - 1))
            if cut < 0:
                break
            lines += block.count(b"\n", counted, cut + 1)
            parts.append(Part(start, before, lines - before))
            start, before, counted = at + cut + 1, lines, cut + 1
        lines += block.count(b"\n", counted)
        at, ended = at + len(block), block.endswith(b"\n")
    lines += not ended
    return [*parts, Part(start, before, lines - before)] if lines > before or not parts else parts


def joined(parts: list[Part], most: int) -> list[Part]:
    """The same records in `most` parts at most."""
    each = -(-len(parts) // most)
    groups = [parts[i : i + each] for i in range(0, len(parts), each)]
    return [Part(group[0].start, group[0].before, sum(part.records for part in group)) for group in groups]
