"""Scored: what is left when duplicates and benchmark questions are gone: the set that phases choose from.

Every score is a column of its files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import Done, File, Stage
from phi3kit.corpus.rows import RowWriter
from phi3kit.corpus.samples import Samples
from phi3kit.corpus.shards import ShardWriter, read_shard
from phi3kit.corpus.stages.copies import copies_of
from phi3kit.corpus.stages.read import rejection
from phi3kit.corpus.stages.screen import Questions, Screen
from phi3kit.records import Document


@dataclass(frozen=True)
class Scored(Stage):
    """Documents without duplicates and without benchmark questions.

    Args:
        shards: of each rank.
        repeated: rows to leave out, by shard (of `Duplicates`).
        near: the same, of `NearDuplicates`.
        aspects: scores that become columns.
        questions: of benchmarks.
        first: number that `repeated` and `near` give the first of the shards.
    """

    name = "scored"
    shards: Sequence[File]
    repeated: Sequence[File]
    near: Sequence[File]
    aspects: Sequence[str]
    questions: Questions
    first: int = 0

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the documents left and ``rejected.jsonl``."""
        shard = self.first + rank
        repeated, near = copies_of(self.repeated, shard), copies_of(self.near, shard)
        samples = Samples()
        sources: dict[str, Counter[str]] = {}
        reasons: Counter[str] = Counter()
        with (
            ShardWriter(folder / "documents.parquet", self.aspects) as kept,
            RowWriter(folder / "rejected.jsonl") as rejected,
            RowWriter(folder / "contamination.jsonl") as hits,
        ):
            screen = Screen(self.questions, hits)
            for row, document in enumerate(read_shard(self.shards[rank].path)):
                counts = sources.setdefault(document.source, Counter(read=0, kept=0))
                counts["read"] += 1
                verdict, note = _verdict(document, row in repeated, row in near, screen)
                if verdict:
                    reasons[": ".join(verdict)] += 1
                    kept_one = repeated.get(row) or near.get(row)
                    told = {"kept": kept_one} if kept_one else {}
                    rejected.write(rejection(document, "web", *verdict) | told)
                    samples.add(f"rejected as {verdict[0]}", document, reason=note or verdict[1])
                else:
                    counts["kept"] += 1
                    kept.write(document)
        samples.save(folder / "samples.json")
        return {"sources": sources, "rejected": reasons, "hits": screen.counts}

    def check(self, done: Done) -> None:
        """What came in was kept or rejected."""
        counts = done.counts()
        rejected = sum(sum(rank["rejected"].values()) for rank in counts)
        read, kept = (sum(c[what] for rank in counts for c in rank["sources"].values()) for what in ("read", "kept"))
        assert read == kept + rejected, f"{read} documents came in, {kept} were kept, {rejected} rejected"


def _verdict(
    document: Document, repeated: bool, near: bool, screen: Screen
) -> tuple[tuple[str, str] | None, str | None]:
    """((rule, reason) or None, what else samples say)."""
    if repeated:
        return ("duplicate", SAME), None
    if near:
        return ("near-duplicate", ALIKE), None
    leak = screen.leak(document)
    if leak is None:
        return None, None
    return ("contaminated", leak.benchmark), f"{leak.benchmark} {leak.question}: {leak.matched}"


SAME = "same text as a document before it"
ALIKE = "nearly the same text as a document before it"
