"""Near-duplicates: signatures by many ranks; then, by one, which rows repeat an earlier document in other words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.near_duplicates import near_duplicates, write_signatures
from phi3kit.corpus.shards import read_columns
from phi3kit.corpus.stages.copies import write_copies


@dataclass(frozen=True)
class Signatures(Stage):
    """A MinHash signature of every document.

    Args:
        shards: the documents of each rank.
        web: whether they are web pages.
        minhash: makes signatures.
    """

    name = "signatures"
    shards: Sequence[File]
    web: Sequence[bool]
    minhash: MinHash

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the signatures' files."""
        texts = (row["text"] for row in read_columns(self.shards[rank].path, ["text"]))
        return {"documents": write_signatures(folder, texts, self.minhash, self.web[rank])}


@dataclass(frozen=True)
class NearDuplicates(Stage):
    """Which rows of which shards are nearly the same as an earlier one.

    Args:
        shards: the documents, in order.
        signatures: all files of all shards, in order; a shard's lie in one folder.
        minhash: what they were made with.
    """

    name = "near-duplicates"
    shards: Sequence[File]
    signatures: Sequence[File]
    minhash: MinHash

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write ``0000n.json`` for each shard n that has any: its rows, and the ids of the documents they repeat."""
        folders = [file.path.parent for file in self.signatures]
        copies = near_duplicates(list(dict.fromkeys(folders)), self.minhash)
        return {"repeated": write_copies(folder, copies, self.shards)}
