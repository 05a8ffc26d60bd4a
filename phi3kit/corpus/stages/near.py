"""Near-duplicates: signatures by many ranks; then, by one, which rows repeat an earlier document in other words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.near_duplicates import near_duplicates, write_signatures
from phi3kit.corpus.shards import read_columns


@dataclass(frozen=True)
class Signatures(Stage):
    """A MinHash signature of every document.

    Args:
        shards: the documents of each rank.
        minhash: makes signatures.
    """

    name = "signatures"
    shards: Sequence[File]
    minhash: MinHash

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the signatures' files."""
        texts = (row["text"] for row in read_columns(self.shards[rank].path, ["text"]))
        return {"documents": write_signatures(folder, texts, self.minhash)}


@dataclass(frozen=True)
class NearDuplicates(Stage):
    """Which rows of which shards are nearly the same as an earlier one.

    Args:
        signatures: all files of all shards, in order; a shard's lie in one folder.
        minhash: what they were made with.
    """

    name = "near-duplicates"
    signatures: Sequence[File]
    minhash: MinHash

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write ``0000n.npy`` for each shard n that has any: its rows, and the shard and row of the first."""
        folders = [file.path.parent for file in self.signatures]
        copies: dict[int, list[tuple[int, int, int]]] = {}
        for copy in near_duplicates(list(dict.fromkeys(folders)), self.minhash):
            copies.setdefault(copy.shard, []).append((copy.row, copy.of_shard, copy.of_row))
        for shard, rows in copies.items():
            numpy.save(folder / f"{shard:05d}.npy", numpy.asarray(rows, numpy.int64))
        return {"repeated": sum(map(len, copies.values()))}
