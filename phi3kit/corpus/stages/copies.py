"""Copies: which rows of a shard go because they repeat a document that stays, and that one's id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from phi3kit.corpus.engine.stage import File
from phi3kit.corpus.near_duplicates import Copy
from phi3kit.corpus.shards import read_columns


def write_copies(folder: Path, copies: Iterable[Copy], shards: Sequence[File]) -> int:
    """Write ``0000n.json`` for each shard n that has any: row -> id of the document it repeats; return how many.

    Args:
        folder: of the stage.
        copies: found.
        shards: the documents, in order.
    """
    rows_of: dict[int, list[Copy]] = {}
    wanted: dict[int, set[int]] = {}
    for copy in copies:
        rows_of.setdefault(copy.shard, []).append(copy)
        wanted.setdefault(copy.of_shard, set()).add(copy.of_row)
    ids = {
        (shard, row): columns["id"]
        for shard, rows in wanted.items()
        for row, columns in enumerate(read_columns(shards[shard].path, ["id"]))
        if row in rows
    }
    for shard, found in rows_of.items():
        kept = {copy.row: ids[copy.of_shard, copy.of_row] for copy in found}
        (folder / f"{shard:05d}.json").write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    return sum(map(len, rows_of.values()))


def copies_of(files: Sequence[File], shard: int) -> dict[int, str]:
    """Row -> id of the document it repeats, of the rows of a shard that go."""
    found = [
        json.loads(file.path.read_text(encoding="utf-8")) for file in files if file.path.name == f"{shard:05d}.json"
    ]
    return {int(row): id for rows in found for row, id in rows.items()}
