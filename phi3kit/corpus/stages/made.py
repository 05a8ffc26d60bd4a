"""Made: exercises out of the chosen documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.queries import SYNTHETIC
from phi3kit.corpus.shards import ShardWriter
from phi3kit.corpus.stages.choose import chosen
from phi3kit.errors import UserError
from phi3kit.families import Synthesizer
from phi3kit.records import Document


@dataclass(frozen=True)
class Exercises(Stage):
    """Synthetic documents made of one phase's documents.

    Args:
        shards: scored documents.
        masks: their phases.
        phase: number of the phase whose documents are used.
        makers: make the exercises.
        shard_bytes: size of a shard.
        folder: that the paths of files start from.
    """

    name = "exercises"
    shards: Sequence[File]
    masks: Sequence[File]
    phase: int
    makers: Sequence[Synthesizer]
    shard_bytes: int
    folder: str

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the exercises in shards."""
        with chdir(self.folder):
            return self._write(folder)

    def _write(self, folder: Path) -> dict[str, Any]:
        n = shards = 0
        writer: ShardWriter | None = None
        for document in only(Document, chain.from_iterable(maker.make(self._documents()) for maker in self.makers)):
            if writer is None or writer.bytes >= self.shard_bytes:
                if writer is not None:
                    writer.__exit__(None, None, None)
                writer = ShardWriter(folder / f"documents-{shards:05d}.parquet")
                shards += 1
            writer.write(replace(document, metadata=document.metadata | {SYNTHETIC: True}))
            n += 1
        if writer is not None:
            writer.__exit__(None, None, None)
        return {"documents": n, "refused": refused_by(self.makers)}

    def _documents(self) -> Iterator[Document]:
        for shard, masks in zip(self.shards, self.masks, strict=True):
            yield from chosen(shard, masks, self.phase)


def refused_by(makers: Sequence[Synthesizer]) -> Counter[str]:
    """Why things were not made, over all makers: reason -> how often."""
    reasons: Counter[str] = Counter()
    for maker in makers:
        reasons.update(maker.refused())
    return reasons


def only(kind: type, made: Iterable[Any]) -> Iterator[Any]:
    """What was made. Raises `UserError` where it is of another kind."""
    for item in made:
        if not isinstance(item, kind):
            raise UserError(f"a {kind.__name__} is wanted here, but {type(item).__name__} {item.id!r} was made")
        yield item
