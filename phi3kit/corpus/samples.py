"""A few documents of each kind, for people to look at: always the same ones, whatever the order or the ranks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from phi3kit.records import Document

EACH, CHARACTERS = 4, 400


class Samples:
    """Keeps a few documents of each kind: the nearest to something, or those whose ids have the smallest hashes.

    Args:
        each: how many of each kind.
    """

    def __init__(self, each: int = EACH) -> None:
        self.each = each
        self._kinds: dict[str, dict[str, dict[str, Any]]] = {}

    def add(self, kind: str, document: Document, distance: float = 0.0, **note: Any) -> None:
        """Perhaps keep a document under a kind; the smaller its distance, the sooner."""
        kept = self._kinds.setdefault(kind, {})
        key = f"{distance:020.9f} {sha256(document.id.encode()).hexdigest()}"
        if len(kept) < self.each or key < max(kept):
            text = document.text[:CHARACTERS] + ("…" if len(document.text) > CHARACTERS else "")
            kept[key] = {"id": document.id, "source": document.source, "text": text, **note}
            while len(kept) > self.each:
                del kept[max(kept)]

    def save(self, file: Path) -> None:
        """Write what was kept."""
        file.write_text(json.dumps({kind: self._kinds[kind] for kind in sorted(self._kinds)}, ensure_ascii=False))

    @classmethod
    def merge(cls, files: Iterable[Path], each: int = EACH) -> dict[str, list[dict[str, Any]]]:
        """kind -> the samples of several files together."""
        merged: dict[str, dict[str, dict[str, Any]]] = {}
        for file in files:
            for kind, kept in json.loads(file.read_text()).items():
                merged.setdefault(kind, {}).update(kept)
        return {kind: [kept[key] for key in sorted(kept)[:each]] for kind, kept in sorted(merged.items())}
