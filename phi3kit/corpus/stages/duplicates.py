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
from phi3kit.corpus.near_duplicates import Copy
from phi3kit.corpus.shards import read_columns
from phi3kit.corpus.stages.copies import write_copies

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
        shards: the documents, in order.
        hashes: of each shard.
    """

    name = "duplicates"
    shards: Sequence[File]
    hashes: Sequence[File]

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write ``0000n.json`` for each shard n that has any: its rows, and the ids of the documents they repeat."""
        sizes = [file.bytes // HASH_BYTES for file in self.hashes]
        starts = numpy.concatenate([[0], numpy.cumsum(sizes)]).astype(numpy.int64)
        pairs = numpy.concatenate([numpy.empty((0, 2), numpy.int64), *self._repeated(starts)])
        places = numpy.searchsorted(starts, pairs, side="right") - 1
        rows = pairs - starts[places]
        copies = sorted(Copy(*map(int, (p[0], r[0], p[1], r[1]))) for p, r in zip(places, rows, strict=True))
        return {"documents": int(starts[-1]), "repeated": write_copies(folder, copies, self.shards)}

    def _repeated(self, starts: numpy.ndarray) -> Iterator[numpy.ndarray]:
        """(document, the first with its hash), numbered through all shards, of each whose hash came before."""
        for bucket in range(BUCKETS):
            found = [
                _of_bucket(file.path, bucket, int(start)) for file, start in zip(self.hashes, starts, strict=False)
            ]
            halves = numpy.concatenate([numpy.empty((0, 2), "<u8"), *(h for h, _ in found)])
            numbers = numpy.concatenate([numpy.empty(0, numpy.int64), *(n for _, n in found)])
            order = numpy.lexsort((numbers, halves[:, 1], halves[:, 0]))
            opens = numpy.concatenate([[True], (halves[order[1:]] != halves[order[:-1]]).any(axis=1)])[: len(order)]
            first = numpy.maximum.accumulate(numpy.where(opens, numpy.arange(len(order)), 0))
            yield numpy.stack([numbers[order[~opens]], numbers[order[first[~opens]]]], axis=1)


def _of_bucket(file: Path, bucket: int, start: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    if not file.stat().st_size:  # an empty file cannot be mapped
        return numpy.empty((0, 2), "<u8"), numpy.empty(0, numpy.int64)
    halves = numpy.memmap(file, "<u8", "r").reshape(-1, 2)
    rows = numpy.flatnonzero(halves[:, 0] % BUCKETS == bucket)
    return numpy.asarray(halves[rows]), rows + start
