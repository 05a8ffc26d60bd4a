"""Tokens: the chosen documents' ids as chunks, one folder per rank; every token that was counted is in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

import numpy

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.shards import read_columns
from phi3kit.corpus.stages.choose import HELD_OUT, MADE_FROM, masks_of
from phi3kit.corpus.tokens import TokenWriter


@dataclass(frozen=True)
class Encoded:
    """A shard, its documents' phases and their ids.

    Args:
        documents: the shard.
        masks: of `Choose`.
        ids: of `Encode`.
        lengths: of `Encode`.
        type: of the ids.
    """

    documents: File
    masks: File
    ids: File
    lengths: File
    type: str

    def rows(self, phase: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """(whether it is in the phase, whether held out by its hash, number of tokens) of each document."""
        masks = masks_of(self.masks)
        return masks >> phase & 1 > 0, masks & HELD_OUT > 0, numpy.fromfile(self.lengths.path, numpy.int32)


@dataclass(frozen=True)
class Tokens(Stage):
    """One split of one phase.

    Args:
        groups: the shards of each rank.
        phase: its number.
        split: "train" or "heldout".
        also_held: ids held out besides those that their hashes hold out.
        epochs: source -> how often its documents come, and which sources do; empty: each document once.
    """

    name = "tokens"
    groups: Sequence[Sequence[Encoded]]
    phase: int
    split: str
    also_held: Sequence[str]
    epochs: Mapping[str, float]

    @property
    def ranks(self) -> int:
        """One per group of shards."""
        return len(self.groups)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write chunks, their index and ``documents.txt``."""
        tokens: Counter[str] = Counter()
        documents: Counter[str] = Counter()
        different = 0
        with TokenWriter(folder) as writer, (folder / "documents.txt").open("w", encoding="utf-8") as names:
            for epoch in range(self._epochs()):
                for encoded in self.groups[rank]:
                    ids = numpy.memmap(encoded.ids.path, encoded.type, "r") if encoded.ids.bytes else ()
                    for id, source, start, length, times in self._rows(encoded):
                        if times <= epoch:
                            continue
                        writer.write(numpy.asarray(ids[start : start + length]))
                        documents[source] += 1
                        tokens[source] += length
                        if not epoch:
                            names.write(f"{id}\n")
                            different += 1
        assert tokens.total() == writer.tokens, f"{tokens.total()} tokens counted, {writer.tokens} written"
        return {"documents": documents, "tokens": tokens, "different": different}

    def _epochs(self) -> int:
        return 1 if self.split == "heldout" else max(1, ceil(max(self.epochs.values(), default=1)))

    def _rows(self, encoded: Encoded) -> Iterator[tuple[str, str, int, int, int]]:
        """(id, source, where its ids start, how many, how often) of each document of this split."""
        taken, held, lengths = encoded.rows(self.phase)
        ends = numpy.cumsum(lengths, dtype=numpy.int64)
        rows = read_columns(encoded.documents.path, ["id", "source", "metadata"])
        for row, in_phase, is_held, length, end in zip(rows, taken, held, lengths, ends, strict=True):
            if not in_phase:
                continue
            also = bool(self.also_held) and _original(row) in self.also_held
            if (bool(is_held) or also) == (self.split == "heldout") and (
                times := self._times(row["id"], row["source"])
            ):
                yield row["id"], row["source"], int(end - length), int(length), times

    def _times(self, id: str, source: str) -> int:
        """How often a document comes: whole epochs, and once more for as many documents as the rest asks."""
        if not self.epochs:
            return 1
        if self.split == "heldout":
            return int(source in self.epochs)
        whole, rest = divmod(self.epochs.get(source, 0.0), 1.0)
        lot = int.from_bytes(sha256(f"mixture {id}".encode()).digest()[:8], "big") / 2**64
        return int(whole) + (lot < rest)


def _original(row: Mapping[str, Any]) -> str:
    return str(json.loads(row["metadata"]).get(MADE_FROM, row["id"]))


def tokens_by_source(encoded: Sequence[Encoded], phase: int) -> Counter[str]:
    """How many training tokens of each source a phase has, before any mixture."""
    counts: Counter[str] = Counter()
    for shard in encoded:
        taken, held, lengths = shard.rows(phase)
        sources = (row["source"] for row in read_columns(shard.documents.path, ["source"]))
        for source, wanted, length in zip(sources, taken & ~held, lengths, strict=True):
            if wanted:
                counts[source] += int(length)
    return counts


def groups_of(encoded: Sequence[Encoded], phase: int, bytes_at_once: int) -> list[list[Encoded]]:
    """Shards put together so that each rank has enough to fill chunks, in order."""
    groups: list[list[Encoded]] = []
    size = bytes_at_once
    for shard in encoded:
        taken, _, _ = shard.rows(phase)
        if not taken.any():
            continue
        if size >= bytes_at_once:
            groups.append([])
            size = 0
        groups[-1].append(shard)
        size += shard.ids.bytes
    return groups
