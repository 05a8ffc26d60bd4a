"""Rows of a folder of token chunks, over the joined stream: a row goes on in the next chunk where its own ends.

Chunks are litdata's: a header of counts and offsets, then plain numbers. They are mapped into memory as rows ask for
them, so that any row costs the same, in any order and in any process.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, final

import numpy
import torch
from torch.utils.data import Dataset

from phi3kit.errors import UserError

MAPPED = 64  # chunks mapped at once by one process
TYPES = {2: numpy.int32, 3: numpy.int64, 5: numpy.uint16, 6: numpy.uint32}  # litdata's numbers of NumPy's types


@final
class TokenRows(Dataset[torch.Tensor]):
    """Row i holds the ids from i * size on.

    Args:
        folder: of chunks, with their index.
        size: ids of a row.

    Raises:
        UserError: there are no such chunks, they are not whole, or they hold less than a row.
    """

    def __init__(self, folder: Path, size: int) -> None:
        if not (folder / "index.json").is_file():
            out = folder.parent.parent
            raise UserError(f"there are no tokens at {folder}; run `phi3kit prepare` with `out: {out}`")
        if size < 1:
            raise UserError(f"a row of {size} tokens holds none; raise the context")
        index = json.loads((folder / "index.json").read_text())
        self.folder, self.size = folder, size
        self.type = _type_of(index["config"], folder)
        self.chunks: list[tuple[Path, int, int]] = []  # (file, where its ids begin, how many)
        for chunk in index["chunks"]:
            file, start = folder / chunk["filename"], 4 * (2 + chunk["chunk_size"])
            wanted = start + chunk["dim"] * self.type.itemsize
            if not file.is_file() or file.stat().st_size != wanted:
                raise UserError(f"{file} is not whole: it should have {wanted} bytes; prepare {folder} again")
            self.chunks.append((file, start, chunk["dim"]))
        self.starts = list(accumulate((n for _, _, n in self.chunks), initial=0))
        if self.tokens < size:
            raise UserError(f"{folder} holds {self.tokens} tokens, fewer than one row of {size}; lower the context")
        self._mapped: dict[int, numpy.ndarray] = {}

    @property
    def tokens(self) -> int:
        """How many ids there are."""
        return self.starts[-1]

    @property
    def left_out(self) -> int:
        """How many ids at the end are in no row, because they do not fill one."""
        return self.tokens % self.size

    def __len__(self) -> int:
        return self.tokens // self.size

    def __getitem__(self, number: int) -> torch.Tensor:
        if not 0 <= number < len(self):
            raise IndexError(number)
        at, end = number * self.size, (number + 1) * self.size
        pieces = []
        chunk = bisect_right(self.starts, at) - 1
        while at < end:
            upto = min(end, self.starts[chunk + 1])
            pieces.append(self._ids(chunk)[at - self.starts[chunk] : upto - self.starts[chunk]])
            at, chunk = upto, chunk + 1
        return torch.from_numpy(numpy.concatenate(pieces).astype(numpy.int64))

    def _ids(self, chunk: int) -> numpy.ndarray:
        """The ids of a chunk."""
        if chunk not in self._mapped:
            if len(self._mapped) >= MAPPED:
                del self._mapped[next(iter(self._mapped))]
            file, start, n = self.chunks[chunk]
            self._mapped[chunk] = numpy.memmap(file, self.type, "r", start, (n,))
        return self._mapped[chunk]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}}  # a process that loads ahead maps its own


def _type_of(config: dict[str, Any], folder: Path) -> numpy.dtype[Any]:
    """The type of the ids. Raises `UserError` where they are no plain numbers."""
    kind, _, number = config["data_format"][0].partition(":")
    if kind != "no_header_numpy" or int(number) not in TYPES or config.get("compression"):
        raise UserError(f"{folder} is no folder of plain token ids ({config['data_format'][0]}); prepare it again")
    return numpy.dtype(TYPES[int(number)])
