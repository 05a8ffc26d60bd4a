"""Parts of large files: together they are the whole, whatever their size; bad lines are named as in the whole."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from component_examples import write_pages

from phi3kit.corpus import WARC, FastHTML, JSONLines, Length, Local, ParquetFiles, Preparation, Progress, SavedDataset
from phi3kit.corpus.parts import Divisible, joined, parts_of_lines
from phi3kit.errors import UserError
from phi3kit.families import Reader

QUIET = Progress(quiet=True)


def lines(n: int) -> str:
    rows = [json.dumps({"text": f"lamp {i} " * (i % 7 + 1), "id": str(i)}) for i in range(n)]
    return "\n".join([*rows[: n // 2], "", *rows[n // 2 :]])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One file of each kind, the JSONL ones with an empty line and without a last line end."""
    content = lines(90).encode()
    made = {
        "plain": ("a.jsonl", content),
        "gzip": ("a.jsonl.gz", gzip.compress(content)),
        "zstandard": ("a.jsonl.zst", zstandard.compress(content)),
    }
    for name, packed in made.values():
        (tmp_path / name).write_bytes(packed)
    table = pyarrow.table({"text": [f"lamp {i}" for i in range(90)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    with pyarrow.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:
        stream.write_table(table, max_chunksize=7)
    others = {"parquet": tmp_path / "a.parquet", "arrow": tmp_path / "a.arrow"}
    return {kind: tmp_path / name for kind, (name, _) in made.items()} | others


def check_parts(reader: Reader, file: Path, bytes_at_once: int) -> int:
    """The parts, one after the other, are the whole; how many there are."""
    assert isinstance(reader, Divisible)
    parts = reader.parts(file, bytes_at_once)
    found = [document for part in parts for document in reader.read_part("a", file, part)]
    assert found == list(reader.read_file("a", file))
    assert len(found) > 1
    return len(parts)


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstandard", "parquet", "arrow"])
def test_parts_are_the_whole(files: dict[str, Path], kind: str) -> None:
    reader = {"parquet": ParquetFiles, "arrow": SavedDataset}.get(kind, JSONLines)(str(files[kind]))
    counts = [check_parts(reader, files[kind], size) for size in (1, 40, 333, 2**30)]
    assert counts[0] == {"plain": 91, "parquet": 13, "arrow": 13}.get(kind, 8)
    assert counts[-1] == 1


@pytest.mark.parametrize("packed", [True, False])
def test_parts_of_web_archives(tmp_path: Path, packed: bool) -> None:
    file = tmp_path / "a.warc"
    with file.open("wb") as archive:
        write_pages(archive, {f"http://a.b/{i}": f"The lamp {i} on the harbour wall turns. " * 9 for i in range(9)})
    if not packed:
        file.write_bytes(gzip.decompress(file.read_bytes()))
    reader = WARC(str(file), FastHTML())
    assert check_parts(reader, file, 1) > 5
    assert check_parts(reader, file, 2**30) == 1


def test_lines_longer_than_a_part_or_a_look() -> None:
    content = b"x" * 2**21 + b"\n" + b"y\n" * 5 + b"z" * 2**20
    for size in (1, 3, 2**20, 2**21, 2**22):
        parts = parts_of_lines(BytesIO(content), size)
        assert sum(part.records for part in parts) == 7
        assert [part.before for part in parts] == [sum(p.records for p in parts[:i]) for i in range(len(parts))]
        for part in parts:
            assert part.start == 0 or content[part.start - 1 : part.start] == b"\n"
        assert sum(part.records for part in joined(parts, 2)) == 7
        assert len(joined(parts, 2)) <= 2


def test_a_bad_line_is_named_by_its_number_in_the_file(files: dict[str, Path]) -> None:
    file = files["plain"]
    file.write_text(file.read_text().replace('{"text": "lamp 80', '{"txt": "lamp 80'))
    reader = JSONLines(str(file), unreadable="stop")
    with pytest.raises(UserError, match=r"a.jsonl:82 has no text under 'text'"):
        check_parts(reader, file, 300)


def contents(folder: Path) -> dict[str, bytes]:
    names = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in names.items() if name != "report.json"}


def test_several_ranks_read_one_file_and_nobody_can_tell(tmp_path: Path) -> None:
    file = tmp_path / "big.jsonl.gz"
    file.write_bytes(gzip.compress(lines(400).encode(), compresslevel=0))

    def prepared(out: str, workers: int, megabytes: float = 0.004, reader: Reader | None = None) -> Path:
        Preparation(
            readers=[reader or JSONLines(str(file), id_field="id")], filters=[Length(shortest=3)], vocab_size=300,
            holdout=0.1, shard_megabytes=megabytes, executor=Local(workers),
        ).run(tmp_path / out, QUIET)  # fmt: skip
        return tmp_path / out

    alone = prepared("alone", 1)
    assert len(list((tmp_path / "alone.stages").glob("read-*/0*"))) == 6
    assert contents(prepared("together", 2)) == contents(alone)
    whole = prepared("whole", 1, megabytes=1)
    assert (whole / "web/documents.txt").read_text() == (alone / "web/documents.txt").read_text()
    table = pyarrow.Table.from_pylist([json.loads(line) for line in lines(400).split("\n") if line])
    with pyarrow.ipc.new_stream(str(tmp_path / "big.arrow"), table.schema) as stream:
        stream.write_table(table, max_chunksize=20)
    saved = SavedDataset(str(tmp_path / "big.arrow"), id_field="id")
    arrow = prepared("arrow", 1, reader=saved)
    assert len(list((tmp_path / "arrow.stages").glob("read-*/0*"))) == 4
    assert (arrow / "web/documents.txt").read_text() == (alone / "web/documents.txt").read_text()
    inputs = json.loads((alone / "manifest.json").read_text())["inputs"]
    assert inputs == json.loads((whole / "manifest.json").read_text())["inputs"]
    assert len(inputs) == 1


SLOW = [pytest.param(suffix, marks=pytest.mark.slow) for suffix in ("parquet", "jsonl.gz")]


@pytest.mark.parametrize("suffix", ["jsonl", *SLOW])
def test_a_file_smaller_than_a_shard_is_work_for_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The parts depend on the input alone, and only how the scored documents are put into files shows them."""
    rows = [json.loads(line) for line in lines(400).split("\n") if line]
    file = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=20, compression="none")
    else:
        content = lines(400).encode()
        file.write_bytes(gzip.compress(content, compresslevel=0) if suffix.endswith("gz") else content)
    reader = ParquetFiles if suffix == "parquet" else JSONLines

    def prepared(out: str, workers: int, least: int) -> tuple[Path, int, int]:
        monkeypatch.setattr("phi3kit.corpus.plan.LEAST", least)
        asked = Preparation(readers=[reader(str(file))], vocab_size=300, holdout=0.1, executor=Local(workers))
        asked.run(tmp_path / out, QUIET)
        ranks = (len(list((tmp_path / f"{out}.stages").glob(f"{name}-*/0*"))) for name in ("read", "sift"))
        return tmp_path / out, *ranks

    whole, *one = prepared("whole", 1, 2**20)
    alone, read, sifted = prepared("alone", 1, 2000)
    together, *_ = prepared("together", 2, 2000)
    assert one == [1, 1]
    assert sifted > 5
    assert read == (1 if suffix.endswith("gz") else sifted), "a packed file is read by one, and sifted by all"
    assert contents(alone) == contents(together)
    about = ("scored/", "manifest.json", "page.html")
    same = [{k: v for k, v in contents(out).items() if not k.startswith(about)} for out in (whole, alone)]
    assert same[0] == same[1]
