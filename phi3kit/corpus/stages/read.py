"""Read: every source's files into shards of bounded size; every id once; unreadable files listed or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy

from phi3kit.corpus.engine.describe import describe, sha256_of
from phi3kit.corpus.engine.stage import Done, Stage
from phi3kit.corpus.extractors import TIMED_OUT
from phi3kit.corpus.parts import Divisible, Part
from phi3kit.corpus.queries import SYNTHETIC
from phi3kit.corpus.row_documents import SKIPPED, UNREADABLE
from phi3kit.corpus.rows import RowWriter
from phi3kit.corpus.shards import ShardWriter, read_columns
from phi3kit.errors import UserError
from phi3kit.families import Reader
from phi3kit.records import Document

MOST_KINDS = 4  # that one line tells
MOST_TIMED_OUT = 0.05  # share of a source's pages; more means that the extractor or the machine is at fault
ID_BYTES = 16


@dataclass(frozen=True)
class Piece:
    """What one rank reads: some files of a source, or all that a reader without files gives.

    Args:
        source: its name; empty: documents name theirs.
        reader: reads it.
        files: (name for ids, file); empty: the reader has none.
        synthetic: whether its documents are marked as such.
        part: which records of its one file; None: all of them.
    """

    source: str
    reader: Reader
    files: tuple[tuple[str, Path], ...]
    synthetic: bool = False
    part: Part | None = None

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(file.stat().st_size for _, file in self.files)

    def describe(self) -> Any:
        """Files count by name, size and time of change: reading them all to know would take as long as the work."""
        stats = [(name, file.stat()) for name, file in self.files]
        known = [[name, status.st_size, status.st_mtime_ns] for name, status in stats]
        reader = [describe(vars(self.reader), contents=False), str(type(self.reader))]
        return [self.source, self.synthetic, *reader, known, *([list(self.part)] if self.part else [])]

    def documents(self) -> Iterator[Document]:
        """All documents of the piece, each under the source's name."""
        documents: Iterator[Document] = self.reader.read()
        if self.part is not None:
            assert isinstance(self.reader, Divisible)
            documents = self.reader.read_part(*self.files[0], self.part)
        elif self.files:
            documents = chain.from_iterable(self.reader.read_file(name, file) for name, file in self.files)
        return map(self._named, documents)

    def _named(self, document: Document) -> Document:
        marks = {SYNTHETIC: True} if self.synthetic else {}
        return replace(document, source=self.source or document.source, metadata=document.metadata | marks)


def pieces_of(
    source: str, reader: Reader, files: Sequence[tuple[str, Path]], bytes_at_once: int, synthetic: bool = False
) -> Iterator[Piece]:
    """A source in pieces of about so many bytes; a larger file is a piece of its own (see `Divide`)."""
    group: list[tuple[str, Path]] = []
    size = 0
    for name, file in files:
        more = file.stat().st_size
        if group and size + more > bytes_at_once:
            yield Piece(source, reader, tuple(group), synthetic)
            group, size = [], 0
        group.append((name, file.absolute()))
        size += more
    yield Piece(source, reader, tuple(group), synthetic)


@dataclass(frozen=True)
class Divide(Stage):
    """Where the parts of large files begin.

    Args:
        pieces: one large file each, of readers that are `Divisible`; one per rank.
        bytes_at_once: size of a part.
    """

    name = "divide"
    pieces: Sequence[Piece]
    bytes_at_once: int

    @property
    def ranks(self) -> int:
        """One per file."""
        return len(self.pieces)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Count the parts; no files."""
        piece = self.pieces[rank]
        assert isinstance(piece.reader, Divisible)
        return {"parts": piece.reader.parts(piece.files[0][1], self.bytes_at_once)}

    def parts(self, done: Done) -> list[list[Piece]]:
        """Each piece in parts."""
        counts = [rank["parts"] for rank in done.counts()]
        return [[replace(p, part=Part(*part)) for part in parts] for p, parts in zip(self.pieces, counts, strict=True)]


@dataclass(frozen=True)
class Read(Stage):
    """Documents as the readers give them.

    Args:
        pieces: one per rank.
        shard_bytes: size of a shard, in bytes of text.
        part_bytes: the same, of what is read from files.
    """

    name = "read"
    pieces: Sequence[Piece]
    shard_bytes: int
    part_bytes: int

    @property
    def ranks(self) -> int:
        """One per piece."""
        return len(self.pieces)

    @property
    def volatile(self) -> list[int]:
        """Pieces that name no files: nobody knows whether they changed, so they are read in every run."""
        return [rank for rank, piece in enumerate(self.pieces) if not piece.files]

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write shards, ``ids.bin`` (hashes) and ``rejected.jsonl``."""
        piece = self.pieces[rank]
        shards: list[dict[str, Any]] = []
        sources: dict[str, Counter[str]] = {}
        limit = self.part_bytes if piece.files else self.shard_bytes
        timed_out = 0
        skipped: dict[str, Counter[str]] = {}
        first: dict[str, str] = {}  # source -> why its first document cannot be read
        writer: ShardWriter | None = None
        with (folder / "ids.bin").open("wb") as ids, RowWriter(folder / "rejected.jsonl") as rejected:
            for document in piece.documents():
                if kind := document.metadata.get(SKIPPED):
                    skipped.setdefault(document.source, Counter())[kind] += 1
                    continue
                ids.write(_hash(document.id))
                counts = sources.setdefault(document.source, Counter(read=0, unreadable=0))
                counts["read"] += 1
                if reason := document.metadata.get(UNREADABLE):
                    counts["unreadable"] += 1
                    timed_out += TIMED_OUT in reason
                    first.setdefault(document.source, reason)
                    rejected.write(rejection(document, "web", "unreadable", reason))
                    continue
                if writer is None or writer.bytes >= limit:
                    _close(writer, shards)
                    writer = ShardWriter(folder / f"documents-{len(shards):05d}.parquet")
                writer.write(document)
            _close(writer, shards)
        inputs = {name: {"sha256": sha256_of(file), "bytes": file.stat().st_size} for name, file in piece.files}
        if piece.part is not None and piece.part.before:
            inputs = {}  # the first part says what the file was
        told = {"timed_out": timed_out, "first": first, "skipped": skipped}
        return {"sources": sources, "shards": shards, **told, "inputs": inputs}

    def check(self, done: Done) -> None:
        """Some documents of each source that can be read, each id once, few pages that took too long to extract."""
        counts = done.counts()
        read = sum(c["read"] for rank in counts for c in rank["sources"].values())
        if not read:
            said = "".join(f"; {source} has {listed(kinds)}" for source, kinds in skipped_of(done).items())
            raise UserError(f"the readers found no documents; point them at files that hold some{said}")
        timed_out = sum(rank["timed_out"] for rank in counts)
        if timed_out > max(3, MOST_TIMED_OUT * read):
            raise UserError(
                f"the extraction of {timed_out} of {read} documents {TIMED_OUT}; this machine is overloaded, "
                "or set a longer `timeout` of the extractor"
            )
        for source, (total, unreadable, first) in unreadable_of(done).items():
            if unreadable == total:
                raise UserError(f"none of the {total} documents of {source} can be read; the first: {first}")
        _check_ids(done)


def skipped_of(done: Done) -> dict[str, dict[str, int]]:
    """Source -> kind -> how many of it are no documents, the most frequent first; of sources that have such."""
    found: dict[str, Counter[str]] = {}
    for rank in done.counts():
        for source, kinds in rank["skipped"].items():
            found.setdefault(source, Counter()).update(kinds)
    return {source: dict(kinds.most_common()) for source, kinds in found.items()}


def listed(kinds: dict[str, int]) -> str:
    """``"3 × status 404, 1 × image/png, not HTML"``: the most frequent, and how many kinds more there are."""
    told = [f"{n} × {kind}" for kind, n in list(kinds.items())[:MOST_KINDS]]
    return ", ".join([*told, *([f"{len(kinds) - MOST_KINDS} more kinds"] if len(kinds) > MOST_KINDS else [])])


def unreadable_of(done: Done) -> dict[str, tuple[int, int, str]]:
    """Source -> how many documents came, how many of them cannot be read, and why the first; where there are such."""
    found: dict[str, tuple[int, int, str]] = {}
    for rank in done.counts():
        for source, counts in rank["sources"].items():
            read, unreadable, first = found.get(source, (0, 0, ""))
            first = first or rank["first"].get(source, "")
            found[source] = read + counts["read"], unreadable + counts["unreadable"], first
    return {source: counts for source, counts in found.items() if counts[1]}


def _close(writer: ShardWriter | None, shards: list[dict[str, Any]]) -> None:
    if writer is not None:
        writer.__exit__(None, None, None)
        shards.append({"documents": writer.rows, "bytes": writer.bytes})


def rejection(document: Document, part: str, filter: str, reason: str) -> dict[str, Any]:
    """A row of rejected.jsonl."""
    return {"id": document.id, "source": document.source, "part": part, "filter": filter, "reason": reason}


def _hash(id: str) -> bytes:
    return sha256(id.encode()).digest()[:ID_BYTES]


def _check_ids(done: Done) -> None:
    hashes = numpy.concatenate([numpy.fromfile(file.path, f"V{ID_BYTES}") for file in done.files("ids.bin")])
    halves = hashes.view("<u8").reshape(-1, 2)
    order = numpy.lexsort((halves[:, 1], halves[:, 0]))
    same = (halves[order[1:]] == halves[order[:-1]]).all(axis=1)
    if same.any():
        twice = hashes[order[1:][same][0]].tobytes()
        rows = (row["id"] for shard in done.files("documents-") for row in read_columns(shard.path, ["id"]))
        id = next((id for id in rows if _hash(id) == twice), "?")
        raise UserError(f"two documents have the id {id!r}; ids must be unique (see `id_field`)")
