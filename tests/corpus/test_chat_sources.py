"""Files of chats as sources: their splits, metadata and images, and what of them cannot be used."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from phi3kit.corpus import ConversationFile, JSONLines, Local, PreferenceFile, Preparation
from phi3kit.corpus.engine.describe import describe
from phi3kit.corpus.engine.store import Store
from phi3kit.corpus.manifest import headline
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.rows import write_splits
from phi3kit.corpus.stages.chats import Chats
from phi3kit.corpus.stages.screen import Questions
from phi3kit.errors import UserError
from phi3kit.text import read_conversations


def chat(n: int, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}], **more}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def splits(file: ConversationFile) -> list[str]:
    return [row.metadata["split"] for row in file.make([])]


def test_null_splits_of_a_table_are_divided_by_id(tmp_path: Path) -> None:
    rows = [chat(i, metadata={"split": "heldout" if i < 3 else None}) for i in range(20)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "c.parquet")
    found = splits(ConversationFile(str(tmp_path / "c.parquet"), holdout=0.0))
    assert found == ["heldout"] * 3 + ["train"] * 17


@pytest.mark.parametrize("kind", ["text", "time", "bytes", "list"])
def test_metadata_of_any_type_is_written_and_read(tmp_path: Path, kind: str) -> None:
    given = {"text": '{"a": 1}', "time": {"made": datetime.datetime(2024, 5, 1)}, "bytes": {"b": b"a\xff"}, "list": [1]}
    wanted = {"text": {"metadata": '{"a": 1}'}, "time": {"made": "2024-05-01T00:00:00"}, "bytes": {"b": "a\\xff"},
              "list": {"metadata": [1]}}  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([chat(0, metadata=given[kind])]), tmp_path / "c.parquet")
    written = stage([ConversationFile(str(tmp_path / "c.parquet"), holdout=0.0)], tmp_path)[0]
    (row,) = read_conversations(written / "chat" / "train.jsonl")
    assert row.metadata == {**wanted[kind], "split": "train"}


def stage(makers: list[Any], tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    conversations = [maker for maker in makers if isinstance(maker, ConversationFile)]
    preferences = [maker for maker in makers if isinstance(maker, PreferenceFile)]
    chats = Chats([], conversations, preferences, str(tmp_path), Questions())
    done = Store(tmp_path / "stages", Local(1), Progress(quiet=True)).run(chats)
    return done.folder / "00000", done.counts()[0]


def test_the_usual_names_of_splits(tmp_path: Path) -> None:
    names = ["train", "train_sft", "Validation", "test", "dev", "eval", "unseen", "a/b", "", None]
    file = lines(tmp_path / "c.jsonl", *(chat(i, split=name) for i, name in enumerate(names)))
    kept = ConversationFile(str(file), holdout=0.0)
    assert splits(kept) == ["train"] * 2 + ["heldout"] * 4 + ["unseen"] + ["train"] * 3
    assert kept.tally().unused == {"a split that cannot name a file": 1}


def test_a_null_split_of_a_strangers_rows_is_trained_on(tmp_path: Path) -> None:
    rows = [({"split": None}, {"id": "a"}), ({}, {"id": "b", "made": datetime.date(2024, 5, 1)})]
    assert write_splits(tmp_path / "chat", rows) == {"train": 2}


def test_images_are_found_from_where_the_rows_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "photos/deep"):
        Path(folder).mkdir()
        lines(Path(folder) / "c.jsonl", chat(0, images=["lamp.png"]))
    (one,) = ConversationFile("photos/deep/c.jsonl").make([])
    assert one.images == (f"{tmp_path}/photos/deep/lamp.png",)
    found = [row.images for row in ConversationFile("photos").make([])]
    assert found == [(f"{tmp_path}/photos/c.jsonl".replace("c.jsonl", "lamp.png"),), one.images]


def test_what_cannot_be_used_is_in_the_manifest_and_said(tmp_path: Path) -> None:
    good = [chat(i, source="x") for i in range(5)]
    chats = lines(tmp_path / "c.jsonl", good[0], "{broken", *good[1:], chat(9, tools="?"))
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    pairs = lines(tmp_path / "p.jsonl", pair, {**pair, "rejected": "a"}, pair)
    files = stage([ConversationFile(str(chats)), PreferenceFile(str(pairs))], tmp_path)[1]["files"]
    assert (files[str(chats)]["rows"], files[str(chats)]["unreadable"]) == (7, 2)
    assert files[str(chats)]["unused_fields"] == {"source": 5}
    assert files[str(pairs)]["first"] == [f"{pairs}:2: chosen and rejected are the same"]
    manifest = {"read": 0, "kept": 0, "rejected": {}, "synthesis": {"refused": {}}, "parts": {}, "chat_files": files,
                "chat": {}, "preferences": {}, "tokenizer": {"class": "T", "vocab_size": 1}}  # fmt: skip
    said = "\n".join(headline(manifest))
    assert f"{chats}: 2 of 7 rows cannot be used and are left out, the first: {chats}:2: is not JSON" in said
    assert f"{chats}: fields that are not used: source (5 rows)" in said
    with pytest.raises(UserError, match=r"c\.jsonl:2 is not JSON"):
        list(ConversationFile(str(chats), unreadable="stop").make([]))


def test_an_unknown_shape_is_told_before_any_document_is_read(tmp_path: Path) -> None:
    file = lines(tmp_path / "c.jsonl", {"body": "x"}, {"body": "y"})
    asked = Preparation(
        readers=[JSONLines("nowhere.jsonl")], conversations=[ConversationFile(str(file))], vocab_size=300
    )
    with pytest.raises(UserError, match=r"2 of 2 rows cannot be used; the first: .*c\.jsonl:1: unknown shape"):
        asked.run(tmp_path / "out", Progress(quiet=True))
    assert not list(ConversationFile(str(tmp_path / "none.jsonl"), optional=True).make([]))


def test_a_folders_files_decide_its_description(tmp_path: Path) -> None:
    (tmp_path / "chats").mkdir()
    lines(tmp_path / "chats" / "a.jsonl", chat(0))
    before = describe(ConversationFile(str(tmp_path / "chats")))
    assert describe(ConversationFile(str(tmp_path / "chats"))) == before
    lines(tmp_path / "chats" / "b.jsonl", chat(1))
    assert describe(ConversationFile(str(tmp_path / "chats"))) != before
