"""Conversations and preferences from files, and what is said about rows that are neither."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from phi3kit.errors import UserError
from phi3kit.records import Conversation, Message, Preference
from phi3kit.text.chat_files import conversation_row, preference_row, read_conversations, read_preferences

ASK, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
WORSE = {"role": "assistant", "content": "Go away."}


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    talk = Conversation((Message("user", "é\n"), Message("assistant", "x")), "a", {"split": "train"})
    pair = Preference((Message("user", "q"),), (Message("assistant", "y"),), (Message("assistant", "n"),), "b")
    assert read_conversations(jsonl(tmp_path / "c.jsonl", conversation_row(talk))) == [talk]
    assert read_preferences(jsonl(tmp_path / "p.jsonl", preference_row(pair))) == [pair]


def test_jsonl_gzip_and_parquet_read_alike(tmp_path: Path) -> None:
    rows = [{"messages": [ASK, ANSWER], "id": str(i)} for i in range(3)]
    plain = read_conversations(jsonl(tmp_path / "c.jsonl", *rows))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "c.parquet")
    assert plain == read_conversations(tmp_path / "c.jsonl.gz") == read_conversations(tmp_path / "c.parquet")
    assert [conversation.id for conversation in plain] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go away."},
        {"prompt": [ASK], "chosen": [ANSWER], "rejected": [WORSE]},
        {"prompt": [ASK], "chosen": [ASK, ANSWER], "rejected": [ASK, WORSE]},
        {"prompt": "Hi", "chosen": [ASK, ANSWER], "rejected": "Go away."},
    ],
)
def test_accepted_preference_shapes_mean_the_same(tmp_path: Path, row: dict[str, object]) -> None:
    (preference,) = read_preferences(jsonl(tmp_path / "p.jsonl", row))
    assert preference.prompt == (Message("user", "Hi"),)
    assert preference.chosen == (Message("assistant", "Hello."),)
    assert preference.rejected == (Message("assistant", "Go away."),)
    assert preference.id == f"{tmp_path / 'p.jsonl'}:1"


def test_unknown_shape_shows_the_row_and_the_accepted_ones(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "c.jsonl", {"body": "x" * 500, "output": "y"})
    for read in (read_conversations, read_preferences):
        with pytest.raises(UserError) as error:
            read(file)
        message = str(error.value)
        assert f'{file}:1: unknown shape {{"body": "xxx' in message
        assert '"messages": [' in message
        assert '"chosen"' in message
        assert len(message) < 800
        assert "\n" not in message


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{broken", r"c\.jsonl:2 is not JSON"),
        ([1], r"c\.jsonl:2: unknown shape \[1\]"),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            r'c\.jsonl:2: messages\[0\] has role "bot"; use one of',
        ),
        ({"messages": [ASK, {"role": "assistant", "content": 3}]}, r":2: messages\[1\] has content 3; a text"),
        ({"messages": [ASK]}, r":2: messages has no assistant turn"),
        ({"messages": []}, r":2: unknown shape"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, second: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_conversations(jsonl(tmp_path / "c.jsonl", {"messages": [ASK, ANSWER]}, second))


def test_bad_preferences_and_files(tmp_path: Path) -> None:
    same = {"prompt": "Hi", "chosen": "a", "rejected": "a"}
    with pytest.raises(UserError, match=r":1: chosen and rejected are the same"):
        read_preferences(jsonl(tmp_path / "p.jsonl", same))
    with pytest.raises(UserError, match=r":1: chosen does not end with an assistant turn"):
        read_preferences(jsonl(tmp_path / "p.jsonl", {"prompt": "Hi", "chosen": [ASK], "rejected": "a"}))
    with pytest.raises(UserError, match="there is no file"):
        read_conversations(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="has no rows"):
        read_conversations(jsonl(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match="is not Parquet"):
        read_conversations(jsonl(tmp_path / "x.parquet", "PAR?"))


def test_images_survive(tmp_path: Path) -> None:
    file = tmp_path / "seen.jsonl"
    turns = [{"role": "user", "content": "<|image_1|>\nWhat is it?"}, {"role": "assistant", "content": "A lamp."}]
    file.write_text(json.dumps({"messages": turns, "images": ["a/lamp.png"]}) + "\n")
    (read,) = read_conversations(file)
    assert read.images == ("a/lamp.png",)
    file.write_text(json.dumps(conversation_row(read)) + "\n")
    assert read_conversations(file) == [read]
    file.write_text(json.dumps({"messages": turns, "images": "lamp.png"}) + "\n")
    with pytest.raises(UserError, match=r'seen.jsonl:1: images is "lamp.png"; a list of files is expected'):
        read_conversations(file)
