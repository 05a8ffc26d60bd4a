"""Scored: what is left when duplicates are gone, with every score as a column: the set that phases choose from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import Done, File, Stage
from phi3kit.corpus.rows import RowWriter
from phi3kit.corpus.shards import ShardWriter, read_shard
from phi3kit.corpus.stages.duplicates import rows_of
from phi3kit.corpus.stages.read import rejection


@dataclass(frozen=True)
class Scored(Stage):
    """Documents without duplicates.

    Args:
        shards: of each rank.
        repeated: rows to leave out, by shard (of `Duplicates`).
        aspects: scores that become columns.
    """

    name = "scored"
    shards: Sequence[File]
    repeated: Sequence[File]
    aspects: Sequence[str]

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the documents left and ``rejected.jsonl``."""
        repeated = rows_of(self.repeated, rank)
        sources: dict[str, Counter[str]] = {}
        reasons: Counter[str] = Counter()
        with (
            ShardWriter(folder / "documents.parquet", self.aspects) as kept,
            RowWriter(folder / "rejected.jsonl") as rejected,
        ):
            for row, document in enumerate(read_shard(self.shards[rank].path)):
                counts = sources.setdefault(document.source, Counter(read=0, kept=0))
                counts["read"] += 1
                if row in repeated:
                    reasons[f"duplicate: {SAME}"] += 1
                    rejected.write(rejection(document, "web", "duplicate", SAME))
                else:
                    counts["kept"] += 1
                    kept.write(document)
        return {"sources": sources, "rejected": reasons}

    def check(self, done: Done) -> None:
        """What came in was kept or rejected."""
        counts = done.counts()
        rejected = sum(sum(rank["rejected"].values()) for rank in counts)
        read, kept = (sum(c[what] for rank in counts for c in rank["sources"].values()) for what in ("read", "kept"))
        assert read == kept + rejected, f"{read} documents came in, {kept} were kept, {rejected} rejected"


SAME = "same text as a document before it"
