"""Rows of JSON in files, one per line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one row per line; return how many."""
    n = 0
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            n += 1
    return n


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read what `write_rows` wrote, one row at a time."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def write_splits(folder: Path, rows: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, int]:
    """Write SPLIT.jsonl for each value of ``metadata["split"]``; return the number of rows of each.

    What is trained on is shuffled, by its ids: a batch should not be about one thing.

    Args:
        folder: made if there are rows.
        rows: (metadata, row) of everything.
    """
    splits: dict[str, list[dict[str, Any]]] = {}
    for metadata, row in rows:
        split = str(metadata.get("split") or "train")
        if not re.fullmatch(r"[\w-]+", split):
            raise UserError(f"{row['id']}: the split {split!r} cannot name a file; use letters and digits")
        splits.setdefault(split, []).append(row)
    if splits:
        folder.mkdir()
    splits.get("train", []).sort(key=lambda row: sha256(row["id"].encode()).digest())
    return {split: write_rows(folder / f"{split}.jsonl", rows) for split, rows in splits.items()}


class RowWriter:
    """Writes rows as they come; a context manager.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8")

    def __enter__(self) -> RowWriter:
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self._stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")

    def __exit__(self, *_: object) -> None:
        self._stream.close()
