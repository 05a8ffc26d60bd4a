"""Choose: which phases a document belongs to, and whether it is held out. A later phase takes of the first's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy

from phi3kit.corpus.chats import split_of
from phi3kit.corpus.engine.stage import Done, File, Stage
from phi3kit.corpus.queries import SYNTHETIC, Query
from phi3kit.corpus.rows import RowWriter
from phi3kit.corpus.samples import Samples
from phi3kit.corpus.shards import SCORES, read_shard
from phi3kit.corpus.stages.read import rejection
from phi3kit.records import Document

HELD_OUT = 1 << 31  # bit of a document kept from training; bit i: it belongs to phase i
MADE_FROM = "made_from"  # metadata key: id of the document that something was made of; it shares its split


@dataclass(frozen=True)
class Choose(Stage):
    """Which phases take which documents.

    Args:
        shards: scored documents of each rank.
        queries: of the phases, in order.
        holdout: share of the documents kept from training.
    """

    name = "choose"
    shards: Sequence[File]
    queries: Sequence[Query]
    holdout: float

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write ``phases.bin`` (a bit mask per row) and ``rejected.jsonl``."""
        phases = {query.name: _Group() for query in self.queries}
        samples = Samples()
        with (folder / "phases.bin").open("wb") as masks, RowWriter(folder / "rejected.jsonl") as rejected:
            for document in read_shard(self.shards[rank].path):
                mask = self._mask(document, phases, rejected, samples)
                original = str(document.metadata.get(MADE_FROM, document.id))
                held = split_of(original, self.holdout) == "heldout"
                for group in (g for i, g in enumerate(phases.values()) if mask >> i & 1):
                    group.add(document, original, held)
                masks.write(numpy.uint32(mask | held * HELD_OUT).tobytes())
        samples.save(folder / "samples.json")
        return {"phases": {name: group.counts() for name, group in phases.items()}}

    def _mask(self, document: Any, phases: dict[str, _Group], rejected: RowWriter, samples: Samples) -> int:
        mask = 0
        for i, query in enumerate(self.queries):
            verdict = query.reject(document)
            synthetic = bool(document.metadata.get(SYNTHETIC))
            if i and not synthetic and not mask & 1:
                continue  # a later phase takes of the first's
            if not synthetic:
                _near_the_line(query, document, samples)
            if verdict is None:
                mask |= 1 << i
                samples.add(f"kept for {query.name}", document)
                continue
            rule, reason = verdict
            if rule in ("sources", "synthetic"):
                continue  # not a judgement of this document
            phases[query.name].rejected[f"{rule}: {reason}"] += 1
            rejected.write(rejection(document, query.name, rule, reason))
            samples.add(f"left out of {query.name}", document, reason=f"{rule}: {reason}")
        return mask


def _near_the_line(query: Query, document: Document, samples: Samples) -> None:
    """Keep what lies just above or just below a phase's limits, to see whether they are where they should be."""
    scores = document.metadata.get(SCORES, {})
    for aspect, bound in [*query.least.items(), *query.most.items()]:
        score = scores[aspect]
        side = "above" if score >= bound else "below"
        kind = f"just {side} {bound:g}, the limit of {aspect} in {query.name}"
        samples.add(kind, document, abs(score - bound), reason=f"{aspect} {score:.3g}")


class _Group:
    """Counts of one phase."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.held = 0
        self.least: tuple[str, str] | None = None  # smallest hash of an id, and that id

    def add(self, document: Any, original: str, held: bool) -> None:
        self.documents[document.source] += 1
        self.held += held
        if not document.metadata.get(SYNTHETIC):
            key = sha256(original.encode()).hexdigest(), original
            self.least = min(self.least or key, key)

    def counts(self) -> dict[str, Any]:
        return {"documents": self.documents, "rejected": self.rejected, "held": self.held, "least": self.least}


def also_held_out(done: Done) -> list[str]:
    """Ids to hold out besides those that their hashes hold out, so that no phase is without held-out documents."""
    ids: list[str] = []
    for phase in done.counts()[0]["phases"]:
        groups = [rank["phases"][phase] for rank in done.counts()]
        n = sum(sum(group["documents"].values()) for group in groups)
        least = min((tuple(group["least"]) for group in groups if group["least"]), default=None)
        if n > 1 and least and not sum(group["held"] for group in groups) and least[1] not in ids:
            ids.append(least[1])
    return ids


def masks_of(file: File) -> numpy.ndarray:
    """What a `Choose` stage wrote for a shard, uint32 per row."""
    return numpy.fromfile(file.path, numpy.uint32)


def totals(done: Done, phase: str, what: str) -> Counter[str]:
    """A phase's documents by source, or rejections by reason, over all ranks."""
    summed: Counter[str] = Counter()
    for rank in done.counts():
        summed.update(rank["phases"][phase][what])
    return summed


def chosen(shard: File, masks: File, phase: int) -> Iterable[Any]:
    """The documents of a shard that a phase takes, in order."""
    of_phase = masks_of(masks) >> phase & 1
    return (document for document, taken in zip(read_shard(shard.path), of_phase, strict=True) if taken)
