"""Screen: benchmark questions in texts. What quotes one is dropped, and the report says which words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from phi3kit.corpus.decontamination import Benchmarks, Hit, hits_of
from phi3kit.corpus.engine.describe import describe
from phi3kit.corpus.rows import RowWriter
from phi3kit.records import Conversation, Document, Preference


@dataclass(frozen=True)
class Questions:
    """Benchmark files.

    Args:
        files: of the questions.
        fields: where the question is in a row; empty: the usual names.
    """

    files: tuple[Path, ...] = ()
    fields: tuple[str, ...] = ()

    def describe(self) -> Any:
        """The files' names and contents."""
        return [[file.name, describe(file)["sha256"]] for file in self.files] + [list(self.fields)]

    def load(self) -> Benchmarks:
        """The index, built once per process."""
        return _load(self.files, self.fields)


@lru_cache(maxsize=1)
def _load(files: tuple[Path, ...], fields: tuple[str, ...]) -> Benchmarks:
    return Benchmarks.load(files, fields)


class Screen:
    """Looks for benchmark questions, and writes down every hit.

    Args:
        questions: of the benchmarks; without files nothing is looked for.
        hits: where to write.
    """

    def __init__(self, questions: Questions, hits: RowWriter) -> None:
        self.benchmarks = questions.load() if questions.files else None
        self._hits = hits
        self.counts: Counter[str] = Counter()  # "benchmark, kind"

    def leak(self, item: Document | Conversation | Preference) -> Hit | None:
        """The first question that an item gives away, or None."""
        if self.benchmarks is None:
            return None
        found: Sequence[Hit]
        found = self.benchmarks.hits(item.text) if isinstance(item, Document) else hits_of(item, self.benchmarks)
        for hit in found:
            self.counts[f"{hit.benchmark}, {hit.kind}"] += 1
            self._hits.write({"id": item.id, **hit._asdict(), "share": round(hit.share, 3)})
        return next((hit for hit in found if hit.kind == "question"), None)
