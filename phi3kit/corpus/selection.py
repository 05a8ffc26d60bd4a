"""Which documents stay: no exact duplicates, none that a filter rejects; each rejection is written down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from phi3kit.corpus.chats import split_of
from phi3kit.corpus.files import UNREADABLE
from phi3kit.errors import UserError
from phi3kit.families import Filter
from phi3kit.records import Document


class Selection:
    """The documents kept, in a file; the reasons of the others, in another.

    Args:
        filters: a document must pass them all to be kept.
        stricter: a document kept is also strict if it passes these.
        kept_file: written: kept documents as rows.
        rejected_file: written: who rejected what, and why.
    """

    def __init__(
        self, filters: Sequence[Filter], stricter: Sequence[Filter], kept_file: Path, rejected_file: Path
    ) -> None:
        self.filters, self.stricter = filters, stricter
        self.kept_file, self.rejected_file = kept_file, rejected_file
        self.kept = 0
        self.strict: set[str] = set()
        self._ids: dict[str, bool] = {}  # every id read, and whether it was kept
        self._by_text: dict[bytes, str] = {}  # hash of a text: the first document with it
        self._sources: dict[str, Counter[str]] = {}
        self._rejected: dict[str, Counter[str]] = {"web": Counter(), "reasoning": Counter()}

    def run(self, documents: Iterable[Document]) -> None:
        """Judge every document once. Raises `UserError` when nothing is left."""
        with (
            self.kept_file.open("w", encoding="utf-8") as kept,
            self.rejected_file.open("w", encoding="utf-8") as rejected,
        ):
            for document in documents:
                self._judge(document, kept, rejected)
        if not self._ids:
            raise UserError("the readers found no documents; point them at files that hold some")
        if not self.kept:
            reasons = ", ".join(f"{n} × {reason}" for reason, n in self._rejected["web"].most_common())
            raise UserError(f"nothing is left of {len(self._ids)} documents: {reasons}; loosen these filters")

    def documents(self, strict: bool = False) -> Iterator[Document]:
        """Documents kept, in order; only the strict ones if so asked."""
        with self.kept_file.open(encoding="utf-8") as stream:
            for line in stream:
                document = Document(**json.loads(line))
                if not strict or document.id in self.strict:
                    yield document

    def held_out(self, share: float) -> set[str]:
        """Ids kept from training: a share chosen by their hashes, at least one of all and one of the strict."""
        kept = [id for id, is_kept in self._ids.items() if is_kept]
        held = {id for id in kept if split_of(id, share) == "heldout"}
        for group in (kept, [id for id in kept if id in self.strict]):
            if len(group) > 1 and held.isdisjoint(group):
                held.add(min(group, key=lambda id: sha256(id.encode()).digest()))
        return held

    def report(self) -> dict[str, Any]:
        """Counts, for the manifest."""
        return {
            "read": len(self._ids),
            "kept": self.kept,
            "sources": {source: dict(counts) for source, counts in self._sources.items()},
            "rejected": dict(self._rejected["web"]),
            "left_out_of_reasoning": dict(self._rejected["reasoning"]),
        }

    def _judge(self, document: Document, kept: TextIO, rejected: TextIO) -> None:
        if document.id in self._ids:
            raise UserError(f"two documents have the id {document.id!r}; ids must be unique (see `id_field`)")
        counts = self._sources.setdefault(document.source, Counter(read=0, kept=0, strict=0))
        counts["read"] += 1
        verdict = self._same_or_unreadable(document) or _first(self.filters, document)
        self._ids[document.id] = verdict is None
        if verdict:
            self._reject(document, "web", *verdict, rejected)
            return
        self.kept += 1
        counts["kept"] += 1
        kept.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")
        if verdict := _first(self.stricter, document):
            self._reject(document, "reasoning", *verdict, rejected)
        else:
            self.strict.add(document.id)
            counts["strict"] += 1

    def _same_or_unreadable(self, document: Document) -> tuple[str, str] | None:
        if UNREADABLE in document.metadata:
            return "unreadable", document.metadata[UNREADABLE]
        if not document.text.strip():
            return "empty", "no text"
        digest = sha256(" ".join(document.text.split()).encode()).digest()[:16]
        first = self._by_text.setdefault(digest, document.id)
        return None if first == document.id else ("duplicate", "same text as a document before it")

    def _reject(self, document: Document, part: str, filter: str, reason: str, stream: TextIO) -> None:
        counted = "unreadable" if filter == "unreadable" else f"{filter}: {reason}"
        self._rejected[part][counted] += 1
        row = {"id": document.id, "source": document.source, "part": part, "filter": filter, "reason": reason}
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _first(filters: Sequence[Filter], document: Document) -> tuple[str, str] | None:
    """The first filter that rejects it, and why."""
    for filter in filters:
        if reason := filter.reject(document):
            return type(filter).__name__, reason
    return None
