"""The folder that training reads, put together of the stages' files, and moved into place when it is whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import RANK, Done
from phi3kit.corpus.plan import SPLITS, Plan
from phi3kit.corpus.tokens import indexed_tokens, join, link, read_index
from phi3kit.errors import UserError


def write_folder(folder: Path, plan: Plan) -> dict[str, Any]:
    """Write everything but the manifest; return its `parts`: phase -> split -> documents and tokens.

    Raises:
        UserError: a split has no documents.
    """
    parts: dict[str, Any] = {}
    for phase, query in enumerate(plan.asked.queries):
        done = {split: plan.tokens(phase, split) for split in SPLITS}
        parts[query.name] = {split: _write_split(folder / query.name, split, done[split]) for split in SPLITS}
        names = [file.path for split in SPLITS for file in done[split].files("documents.txt")]
        _concatenate(names, folder / query.name / "documents.txt")
    (folder / "scored").mkdir()
    for number, file in enumerate(plan.scored.files("documents")):
        link(file.path, folder / "scored" / f"{number:05d}.parquet")
    for stage, name in ((plan.vocabulary, "tokenizer"), (plan.chats, "chat"), (plan.chats, "preferences")):
        _link_all(stage, name, folder / name)
    _concatenate(plan.files_of_all("rejected.jsonl"), folder / "rejected.jsonl")
    if plan.questions.files:
        _concatenate(plan.files_of_all("contamination.jsonl"), folder / "contamination.jsonl")
    return parts


def _write_split(folder: Path, split: str, done: Done) -> dict[str, Any]:
    counted: dict[str, int] = {}
    for rank in done.counts():
        for source, tokens in rank["tokens"].items():
            counted[source] = counted.get(source, 0) + tokens
    ranks = [done.folder / f"{rank:05d}" for rank, counts in enumerate(done.counts()) if counts["tokens"]]
    if not ranks:
        raise UserError(
            f"no document is left for {folder.name}/{split}; read more documents, or shorter ones "
            "(one can be in training or held out, not in both)"
        )
    indexed = join(ranks, folder / split)
    assert indexed == sum(counted.values()), f"{folder / split}: {sum(counted.values())} tokens, {indexed} indexed"
    assert indexed == indexed_tokens(read_index(folder / split))
    documents = sum(sum(rank["documents"].values()) for rank in done.counts())
    return {"documents": documents, "tokens": indexed}


def _link_all(done: Done, start: str, to: Path) -> None:
    for file in done.files(f"{start}/"):
        if file.path.name != RANK:
            to.mkdir(exist_ok=True)
            link(file.path, to / file.path.name)


def _concatenate(files: list[Path], to: Path) -> None:
    with to.open("wb") as out:
        for file in files:
            with file.open("rb") as stream:
                shutil.copyfileobj(stream, out)


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people to read."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def move_into_place(partial: Path, out: Path) -> None:
    """Rename, keeping what was there until the new folder is in its place."""
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(partial, out)
    shutil.rmtree(old, ignore_errors=True)
