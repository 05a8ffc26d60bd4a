"""What cannot be read: a row, a group of rows, the rest of a file. It is counted, named with its place, left out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from phi3kit.corpus import Files, JSONLines, ParquetFiles, Preparation, Progress, SavedDataset
from phi3kit.corpus.manifest import headline
from phi3kit.corpus.parts import Divisible
from phi3kit.corpus.row_documents import UNREADABLE
from phi3kit.errors import UserError
from phi3kit.families import Reader

LAMP = "The lamp {} on the harbour wall turns twice a minute, and ships count the turns. "
BAD = {
    b'{"text": null}': ": 'text' is null, not a text",
    b'{"text": 7}': ": 'text' is a number, not a text",
    b'{"text": NaN}': ": 'text' is a number, not a text",
    b'{"text": ["a"]}': ": 'text' is a list, not a text",
    b'{"body": "x"}': " has no text under 'text' (it has: body); set `text_field`",
    b'"text"': " is str, not a row with 'text'",
    b"null": " is null, not a row with 'text'",
    b'{"text": "x"': " is not JSON: ",
    b"[" * 20_000: " is not JSON: ",
    b'{"text": "caf\xe9"}': " is not UTF-8 at byte 13 (0xe9) of the line",
    b'{"text": "\\ud83d"}': ": 'text' is not Unicode at character 0",
    b"\x00\x00\x00": " is not JSON: ",
}


def row(i: int) -> bytes:
    return json.dumps({"text": LAMP.format(i)}).encode()


def found(reader: Reader) -> tuple[list[str], list[str]]:
    """(texts, reasons)."""
    documents = list(reader.read())
    assert len({document.id for document in documents}) == len(documents)
    texts = [document.text for document in documents if UNREADABLE not in document.metadata]
    return texts, [document.metadata[UNREADABLE] for document in documents if UNREADABLE in document.metadata]


@pytest.mark.parametrize(("line", "reason"), BAD.items(), ids=range(len(BAD)))
def test_a_bad_line_is_left_out_with_its_place(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n".join([row(0), line, row(2)]))
    texts, reasons = found(JSONLines(str(file)))
    assert texts == [LAMP.format(0), LAMP.format(2)]
    assert len(reasons) == 1
    assert reasons[0].startswith(f"{file}:2{reason}")
    with pytest.raises(UserError, match=r"a\.jsonl:2.*; mend it, or set `unreadable: skip` to leave such rows out"):
        list(JSONLines(str(file), unreadable="stop").read())


def test_a_row_without_an_id_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": 0}\n{"text": "b", "n": null}\n{"text": "c", "n": ""}\n')
    texts, reasons = found(JSONLines(str(tmp_path / "a.jsonl"), id_field="n"))
    assert texts == ["a"]
    assert ["has no 'n' (it has: text, n); set `id_field`" in reason for reason in reasons] == [True, True]


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + row(0) + b"\r\n" + b"\xef\xbb\xbf" + row(1) + b"\r\n")
    reader = JSONLines(str(tmp_path))
    assert found(reader) == ([LAMP.format(0), LAMP.format(1)], [])


PACKED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.compress}


@pytest.mark.parametrize("suffix", PACKED)
def test_a_packed_file_that_breaks_off_gives_what_is_before(tmp_path: Path, suffix: str) -> None:
    noise = [json.dumps({"text": bytes(i * j % 251 for j in range(900)).hex()}).encode() for i in range(300)]
    packed = PACKED[suffix](b"\n".join(noise))
    file = tmp_path / f"a.jsonl.{suffix}"
    file.write_bytes(packed[: len(packed) * 3 // 5])
    texts, reasons = found(JSONLines(str(file)))
    assert texts == [json.loads(line)["text"] for line in noise[: len(texts)]]
    assert 30 < len(texts) < 290
    assert reasons == [f"{file}:{len(texts) + 1}: the rest cannot be read, it breaks off"]
    check_parts(JSONLines(str(file)), file)
    damaged = bytearray(packed)
    damaged[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    file.write_bytes(damaged)
    texts, reasons = found(JSONLines(str(file)))
    assert len(texts) < 290
    assert "the rest cannot be read, it is damaged (" in reasons[-1]
    with pytest.raises(UserError, match=r"the rest cannot be read|is not JSON"):
        list(JSONLines(str(file), unreadable="stop").read())


@pytest.mark.parametrize("suffix", PACKED)
def test_a_packed_file_of_several_frames_is_read_to_its_end(tmp_path: Path, suffix: str) -> None:
    frames = [PACKED[suffix](row(i) + b"\n") for i in range(5)]
    file = tmp_path / f"a.jsonl.{suffix}"
    file.write_bytes(b"".join(frames) + (b"\0" * 100 if suffix == "gz" else b""))
    assert found(JSONLines(str(file))) == ([LAMP.format(i) for i in range(5)], [])


def check_parts(reader: Reader, file: Path) -> None:
    """In parts as in the whole."""
    assert isinstance(reader, Divisible)
    for size in (1, 5000, 2**30):
        parts = reader.parts(file, size)
        assert [d for part in parts for d in reader.read_part("a", file, part)] == list(reader.read_file("a", file))


def damaged_parquet(file: Path) -> None:
    """60 rows in six groups, one page of the third group overwritten."""
    table = pyarrow.table({"text": [LAMP.format(i) for i in range(60)]})
    pyarrow.parquet.write_table(
        table, file, row_group_size=10, compression="none", use_dictionary=False, write_page_checksum=True
    )
    at = pyarrow.parquet.ParquetFile(file).metadata.row_group(2).column(0).data_page_offset
    content = bytearray(file.read_bytes())
    content[at + 300 : at + 320] = b"\xff" * 20
    file.write_bytes(content)


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    damaged_parquet(file)
    texts, reasons = found(ParquetFiles(str(file)))
    assert texts == [LAMP.format(i) for i in range(60) if not 20 <= i < 30]
    assert len(reasons) == 10
    assert reasons[0].startswith(f"{file}, row 21 cannot be read: ")
    assert reasons[9].startswith(f"{file}, row 30 cannot be read: ")
    check_parts(ParquetFiles(str(file)), file)
    with pytest.raises(UserError, match=r"a\.parquet, row 21 cannot be read"):
        list(ParquetFiles(str(file), unreadable="stop").read())


def test_a_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    raw = pyarrow.array([b"one", b"caf\xe9", b"three"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": raw}), tmp_path / "a.parquet")
    texts, reasons = found(ParquetFiles(str(tmp_path / "a.parquet")))
    assert texts == ["one", "three"]
    assert reasons == [f"{tmp_path / 'a.parquet'}, row 2 is not UTF-8 (0xe9)"]


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["good"]}), tmp_path / "b.parquet")
    texts, reasons = found(ParquetFiles(str(tmp_path)))
    assert texts == ["good"]
    assert "a.parquet is not readable as Parquet" in reasons[0]
    check_parts(ParquetFiles(str(tmp_path)), tmp_path / "a.parquet")


def test_an_arrow_file_that_breaks_off_gives_what_is_before(tmp_path: Path) -> None:
    file = tmp_path / "a.arrow"
    table = pyarrow.table({"text": [LAMP.format(i) for i in range(60)]})
    with pyarrow.ipc.new_stream(str(file), table.schema) as stream:
        stream.write_table(table, max_chunksize=10)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    texts, reasons = found(SavedDataset(str(file)))
    assert texts == [LAMP.format(i) for i in range(len(texts))]
    assert 10 <= len(texts) < 50
    assert f"a.arrow is not readable as Arrow, after row {len(texts)}: " in reasons[0]
    check_parts(SavedDataset(str(file)), file)


def test_prepare_counts_lists_and_says_what_it_left_out(tmp_path: Path) -> None:
    lines = [row(i) for i in range(40)]
    lines[6] = b'{"text": null}'
    lines[9] = b"{"
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    out, file = tmp_path / "out", tmp_path / "a.jsonl"
    manifest = Preparation(readers=[JSONLines(str(file))], vocab_size=300, holdout=0.2).run(out, Progress(quiet=True))
    assert manifest["read"] == 40
    assert manifest["rejected"]["unreadable"] == 2
    reason = f"{file}:7: 'text' is null, not a text"
    assert manifest["unreadable"] == {str(file): {"documents": 2, "first": reason}}
    assert f"{file}: 2 cannot be read, the first: {reason}" in headline(manifest)
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    told = [(line["id"], line["reason"]) for line in rejected if line["filter"] == "unreadable"]
    assert told[0] == ("a.jsonl:7", reason)
    assert told[1][0] == "a.jsonl:10"


def test_a_source_of_which_nothing_can_be_read_stops(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(row(0))
    readers = [JSONLines(str(tmp_path / "a.jsonl"), text_field="body"), JSONLines(str(tmp_path / "a.jsonl"))]
    with pytest.raises(UserError, match=r"none of the 1 documents of .* can be read; the first: .*a\.jsonl:1 has no"):
        Preparation(readers=readers[:1], vocab_size=300).run(tmp_path / "out", Progress(quiet=True))


def test_prepare_does_not_read_what_it_wrote(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(row(i) for i in range(40)))
    prepared = Preparation(readers=[JSONLines(str(tmp_path))], vocab_size=300, holdout=0.2)
    out = tmp_path / "b.c"
    first = prepared.run(out, Progress(quiet=True))
    assert prepared.run(out, Progress(quiet=True))["inputs"] == first["inputs"]
    assert list(first["inputs"]) == [f"{tmp_path.name}/a.jsonl"]
    own = Preparation(readers=[Files(str(out / "web" / "documents.txt"))], vocab_size=300)
    with pytest.raises(UserError, match=r"documents\.txt is what this `prepare` has written itself to .*/b\.c; give"):
        own.run(out, Progress(quiet=True))


@pytest.mark.parametrize("megabytes", [0, -1, float("nan")])
def test_shards_of_nothing_are_refused(tmp_path: Path, megabytes: float) -> None:
    with pytest.raises(UserError, match=r"shard_megabytes is .*; give how much text"):
        Preparation(readers=[JSONLines(str(tmp_path))], vocab_size=300, shard_megabytes=megabytes)
