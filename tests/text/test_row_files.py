"""Files of rows: lines, arrays and tables, packed or marked by Windows, and what in them cannot be read."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from phi3kit.errors import UserError
from phi3kit.text.chat_files import read_conversations
from phi3kit.text.row_files import Broken, rows_at

ROWS = [{"n": i, "text": "é"} for i in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def found(path: Path) -> list[Any]:
    return [row for _, row, _ in rows_at(path)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.jsonl", LINES.replace("\n", "\r\n\r\n").encode()),
        ("a.jsonl", codecs.BOM_UTF8 + LINES.encode()),
        ("a.jsonl", codecs.BOM_UTF16_LE + LINES.encode("utf-16-le")),
        ("a.jsonl", LINES.strip().encode()),
        ("a.json", LINES.encode()),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", codecs.BOM_UTF8 + json.dumps(ROWS, indent=2).encode()),
        ("a.json", json.dumps({"version": 1, "data": ROWS}, indent=2).encode()),
        ("a.json", json.dumps({"rows": ROWS}).encode()),
        ("a.jsonl", json.dumps(ROWS).encode()),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("a.jsonl.zst", zstandard.compress(LINES[:20].encode()) + zstandard.compress(LINES[20:].encode())),
    ],
)
def test_rows_are_the_same_in_any_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert found(tmp_path / name) == ROWS


def test_places_are_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    assert [place for place, _, _ in rows_at(tmp_path / "a.json")] == [f"{tmp_path}/a.json:{n}" for n in (2, 6, 10)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert [place for place, _, _ in rows_at(tmp_path / "a.parquet")][-1] == f"{tmp_path}/a.parquet, row 3"


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.jsonl").write_text(LINES)
    (tmp_path / "deep" / "a.json").write_text(json.dumps(ROWS))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    (tmp_path / "dataset_info.json").write_text('{"a": {}}')
    (tmp_path / "README.md").write_text("about")
    assert found(tmp_path) == ROWS * 3
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none holds no files of rows"):
        found(tmp_path / "none")


def test_what_cannot_be_read_keeps_its_place(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    deep = b"[" * 100_000
    file.write_bytes(b'{"n": 0}\n{"n": \n{"text": "caf\xe9"}\n' + deep + b"\n[1]\n")
    rows = found(file)
    assert rows[0] == {"n": 0}
    assert [type(row) for row in rows[1:4]] == [Broken] * 3
    assert "is not UTF-8 at byte 13 (0xe9) of the line" in rows[2].reason
    assert "nested too deeply" in rows[3].reason
    assert rows[4] == [1]


def test_a_packed_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    noise = [{"n": i, "text": "".join(chr(97 + i * j * j % 26) for j in range(400))} for i in range(400)]
    lines = "".join(json.dumps(row) + "\n" for row in noise).encode()
    for name, packed in (("a.jsonl.gz", gzip.compress(lines)), ("a.jsonl.zst", zstandard.compress(lines))):
        (tmp_path / name).write_bytes(packed[:-9])
        rows = found(tmp_path / name)
        assert isinstance(rows[-1], Broken)
        assert "cannot be read" in rows[-1].reason


def test_an_array_that_breaks_off_says_where(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"n": 1},\n{"n": 2}\n{"n": 3}]')
    with pytest.raises(UserError, match=r"a\.json:2: the array is not JSON from here on"):
        found(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{\n"n": 1\n}')
    with pytest.raises(UserError, match=r"a\.json is one JSON object, no array of rows"):
        found(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UserError, match="has no rows"):
        read_conversations(tmp_path / "a.json")
