"""Duplicates: of documents with the same text, white space aside, the first one stays.

Two stages: hashes of every shard, by many ranks; then, by one, which rows go. The second holds the hashes of a
sixteenth of all documents at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.shards import read_columns

HASH_BYTES = 16
BUCKETS = 16


@dataclass(frozen=True)
class Hashes(Stage):
    """A hash of every document's words.

    Args:
        shards: the documents of each rank.
    """

    name = "hashes"
    shards: Sequence[File]

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write ``hashes.bin``."""
        n = 0
        with (folder / "hashes.bin").open("wb") as stream:
            for row in read_columns(self.shards[rank].path, ["text"]):
                stream.write(sha256(" ".join(row["text"].split()).encode()).digest()[:HASH_BYTES])
                n += 1
        return {"documents": n}


@dataclass(frozen=True)
class Duplicates(Stage):
    """Which rows of which shards repeat an earlier one.

    Args:
        hashes: of each shard, in order.
    """

    name = "duplicates"
    hashes: Sequence[File]

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write ``0000n.npy``, the row numbers to leave out, for each shard n that has any."""
        sizes = [file.bytes // HASH_BYTES for file in self.hashes]
        starts = numpy.concatenate([[0], numpy.cumsum(sizes)]).astype(numpy.int64)
        gone = numpy.sort(numpy.concatenate([numpy.empty(0, numpy.int64), *self._repeated(starts)]))
        for shard in range(len(sizes)):
            rows = gone[(gone >= starts[shard]) & (gone < starts[shard + 1])] - starts[shard]
            if len(rows):
                numpy.save(folder / f"{shard:05d}.npy", rows)
        return {"documents": int(starts[-1]), "repeated": len(gone)}

    def _repeated(self, starts: numpy.ndarray) -> Iterator[numpy.ndarray]:
        """Numbers of the documents, counted through all shards, whose hash came before; bucket by bucket."""
        for bucket in range(BUCKETS):
            found = [
                _of_bucket(file.path, bucket, int(start)) for file, start in zip(self.hashes, starts, strict=False)
            ]
            halves = numpy.concatenate([numpy.empty((0, 2), "<u8"), *(h for h, _ in found)])
            numbers = numpy.concatenate([numpy.empty(0, numpy.int64), *(n for _, n in found)])
            order = numpy.lexsort((numbers, halves[:, 1], halves[:, 0]))
            same = (halves[order[1:]] == halves[order[:-1]]).all(axis=1)
            yield numbers[order[1:][same]]


def _of_bucket(file: Path, bucket: int, start: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    if not file.stat().st_size:  # an empty file cannot be mapped
        return numpy.empty((0, 2), "<u8"), numpy.empty(0, numpy.int64)
    halves = numpy.memmap(file, "<u8", "r").reshape(-1, 2)
    rows = numpy.flatnonzero(halves[:, 0] % BUCKETS == bucket)
    return numpy.asarray(halves[rows]), rows + start


def rows_of(files: Sequence[File], shard: int) -> set[int]:
    """The rows of a shard that a `Duplicates` or `NearDuplicates` stage leaves out."""
    found = [numpy.load(file.path) for file in files if file.path.name == f"{shard:05d}.npy"]
    return {int(row) for rows in found for row in (rows if rows.ndim == 1 else rows[:, 0])}
