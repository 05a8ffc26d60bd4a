"""Score: every document gets a number per aspect. Nothing is dropped here; phases decide by the numbers later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.shards import SCORES, ShardWriter, read_shard
from phi3kit.families import Scorer
from phi3kit.records import Document

AT_ONCE = 256


@dataclass(frozen=True)
class Score(Stage):
    """Documents with their scores in ``metadata["scores"]``.

    Args:
        shards: of each rank.
        scorers: one per aspect.
    """

    name = "score"
    shards: Sequence[File]
    scorers: Sequence[Scorer]

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the documents, scored."""
        with ShardWriter(folder / "documents.parquet") as writer:
            for document in self._scored(read_shard(self.shards[rank].path)):
                writer.write(document)
        return {"documents": writer.rows, "versions": {scorer.aspect: scorer.version for scorer in self.scorers}}

    def _scored(self, documents: Iterator[Document]) -> Iterator[Document]:
        while group := list(islice(documents, AT_ONCE)):
            texts = [document.text for document in group]
            columns = {scorer.aspect: scorer.score(texts) for scorer in self.scorers}
            for i, document in enumerate(group):
                scores = document.metadata.get(SCORES, {}) | {aspect: column[i] for aspect, column in columns.items()}
                yield replace(document, metadata=document.metadata | {SCORES: scores})
