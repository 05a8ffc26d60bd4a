"""Annotators: labels of files in every format, and what a file's mistakes are answered with."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from phi3kit.corpus.annotators import BySource, LabelFile
from phi3kit.errors import UserError
from phi3kit.families import Annotator
from phi3kit.records import Document

DOCUMENTS = [Document(f"d{i}", f"text number {i}\nof\tsome", "web" if i % 2 else "books") for i in range(6)]
ROWS = [
    {"id": f"d{i}", "text": f" text number {i} of some", "label": i, "rationale": f"because {i}"} for i in (3, 1, 5)
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            table = csv.DictWriter(stream, fieldnames=list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(lines))
    return path


def labels(annotator: Annotator) -> list[tuple[str, float, str]]:
    return [(x.document.id, x.label, x.rationale) for x in annotator.annotate(DOCUMENTS)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".parquet"])
@pytest.mark.parametrize("by", ["id", "text"])
def test_every_format_by_id_and_by_text(tmp_path: Path, suffix: str, by: str) -> None:
    file = write(tmp_path / f"labels{suffix}", ROWS)
    annotator = LabelFile(str(file), id_field="id" if by == "id" else None)
    assert labels(annotator) == [("d1", 1.0, "because 1"), ("d3", 3.0, "because 3"), ("d5", 5.0, "because 5")]
    assert annotator.version.startswith(f"labels{suffix} ")


def test_labels_are_stretched_and_averaged(tmp_path: Path) -> None:
    rows = [{"key": "d0", "good": 1}, {"key": "d0", "good": 0}, {"key": "d0", "good": 1}, {"key": "d2", "good": "1"}]
    file = write(tmp_path / "a.csv", rows)
    annotator = LabelFile(str(file), largest=1, label_field="good", id_field="key")
    assert labels(annotator) == [("d0", pytest.approx(10 / 3), ""), ("d2", 5.0, "")]


def test_another_file_is_another_version(tmp_path: Path) -> None:
    first = LabelFile(str(write(tmp_path / "a.jsonl", ROWS))).version
    assert LabelFile(str(write(tmp_path / "a.jsonl", ROWS[:1]))).version != first


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"text": "a", "label": 7}', "a.jsonl:1: the label 7 is not within 0 and 5; set `largest` to the largest"),
        ('{"text": "a", "label": -1}', "the label -1 is not within 0 and 5"),
        ('{"text": "a", "label": "good"}', "a.jsonl:1: the label 'good' is not a number"),
        ('{"text": "a", "label": NaN}', "a.jsonl:1: the label nan is not a number"),
        ('{"text": "a", "quality": 1}', r"a.jsonl:1 has no 'label' (it has: text, quality); set `label_field`"),
        ('{"body": "a", "label": 1}', r"a.jsonl:1 has no 'text' (it has: body, label); set `text_field`"),
        ('{"text": "a", "label": 1}\n{"text', "a.jsonl:2 is not JSON"),
        ("[1]", "a.jsonl:1 is not a row: a mapping is expected, got list"),
        ("\n", "a.jsonl holds no labels"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError) as error:
        list(LabelFile(str(tmp_path / "a.jsonl")).annotate(DOCUMENTS))
    assert told in str(error.value)


def test_bad_files_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file of labels 'nowhere.csv'"):
        LabelFile("nowhere.csv")
    file = write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(UserError, match="largest is 0; give the label that means most"):
        LabelFile(str(file), largest=0)
    with pytest.raises(UserError, match=r"a.jsonl:1 has no 'key' .*set `id_field`"):
        labels(LabelFile(str(file), id_field="key"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"b.parquet is not readable as Parquet"):
        labels(LabelFile(str(tmp_path / "b.parquet")))
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(UserError, match=r"c.jsonl is not UTF-8 at byte 10"):
        labels(LabelFile(str(tmp_path / "c.jsonl")))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b"x" * 99)[:-5])
    with pytest.raises(UserError, match=r"cannot read .*d.jsonl.gz"):
        labels(LabelFile(str(tmp_path / "d.jsonl.gz")))


def test_labels_by_source_are_weak() -> None:
    annotator = BySource({"books": 5, "web": 0})
    assert annotator.weak
    assert [label for _, label, _ in labels(annotator)] == [5, 0] * 3
    assert labels(BySource({"books": 4})) == [(f"d{i}", 4.0, "from books") for i in (0, 2, 4)]
    with pytest.raises(UserError, match="source 'web': the label 6 is not within 0 and 5"):
        BySource({"web": 6})
    with pytest.raises(UserError, match="BySource has no labels"):
        BySource({})
