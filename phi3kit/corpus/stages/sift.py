"""Sift: the rules of its source decide whether a document stays, and each rejection is written down with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import Done, File, Stage
from phi3kit.corpus.profiles import judge
from phi3kit.corpus.rows import RowWriter
from phi3kit.corpus.samples import Samples
from phi3kit.corpus.shards import ShardWriter, read_shard
from phi3kit.corpus.stages.read import rejection
from phi3kit.errors import UserError
from phi3kit.families import Cleaner, Filter
from phi3kit.records import Document


@dataclass(frozen=True)
class Sift(Stage):
    """Documents that pass the filters of their source.

    Args:
        shards: (documents, which rules) of each rank.
        rules: the filters and cleaners of each source.
    """

    name = "sift"
    shards: Sequence[tuple[File, int]]
    rules: Sequence[Sequence[Filter | Cleaner]]

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the documents kept, ``rejected.jsonl`` and samples of both."""
        shard, number = self.shards[rank]
        rules = self.rules[number]
        sources: dict[str, Counter[str]] = {}
        reasons: Counter[str] = Counter()
        cleaned: Counter[str] = Counter()
        samples = Samples()
        with (
            ShardWriter(folder / "documents.parquet") as kept,
            RowWriter(folder / "rejected.jsonl") as rejected,
        ):
            for document in read_shard(shard.path):
                counts = sources.setdefault(document.source, Counter(read=0, kept=0))
                counts["read"] += 1
                document, verdict = judged(rules, document)
                if verdict:
                    filter, reason = verdict
                    reasons[f"{filter}: {reason}"] += 1
                    rejected.write(rejection(document, "web", filter, reason))
                    samples.add(f"rejected by {filter}", document, reason=reason)
                else:
                    counts["kept"] += 1
                    cleaned.update(document.metadata.get("cleaned", {}))
                    kept.write(document)
        samples.save(folder / "samples.json")
        return {"sources": sources, "rejected": reasons, "cleaned": cleaned}

    def check(self, done: Done) -> None:
        """What came in was kept or rejected; something was kept."""
        totals: Counter[str] = Counter()
        for rank in done.counts():
            totals.update(rank["rejected"])
        read = sum(c["read"] for rank in done.counts() for c in rank["sources"].values())
        kept = sum(c["kept"] for rank in done.counts() for c in rank["sources"].values())
        assert read == kept + totals.total(), f"{read} documents came in, {kept} were kept, {totals.total()} rejected"
        if not kept:
            reasons = ", ".join(f"{n} × {reason}" for reason, n in totals.most_common())
            raise UserError(f"nothing is left of {read} documents: {reasons}; loosen these filters")


def judged(rules: Sequence[Filter | Cleaner], document: Document) -> tuple[Document, tuple[str, str] | None]:
    """The document, cleaned, and (which filter, why) where one rejects it."""
    if not document.text.strip():
        return document, ("empty", "no text")
    document, verdict = judge(rules, document)
    if verdict is None and not document.text.strip():
        return document, ("empty", "nothing is left after cleaning")
    return document, verdict
