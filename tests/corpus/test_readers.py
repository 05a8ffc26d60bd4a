"""Readers and extractors: what they read, in which order, and what they say about what they cannot read."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from component_examples import write_pages

from phi3kit.corpus import (
    HTML,
    WARC,
    FastHTML,
    Files,
    HubDataset,
    JSONLines,
    Markdown,
    ParquetFiles,
    PlainText,
    Preparation,
    Progress,
    SavedDataset,
)
from phi3kit.corpus.extractors import within
from phi3kit.corpus.row_documents import UNREADABLE
from phi3kit.errors import UserError
from phi3kit.families import Extractor, Reader
from phi3kit.testing import contracts

SAMPLES = Path(__file__).parents[3] / "shared" / "data"
PAGE = """<html><head><title>Lamp</title></head><body><nav><a href="/">Home</a> <a href="/x">Products</a></nav>
<article><h1>The lamp</h1><p>The lamp on the harbour wall turns twice a minute, and ships count the turns.</p>
<p>It has been lit every night since the wall was built, except for one winter of ice.</p></article>
<footer>Cookie settings. Imprint.</footer></body></html>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    (root / "b").mkdir(parents=True)
    (root / "c.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree")
    (root / "b" / "a.md").write_text("---\ntitle: x\n---\n# Head <!-- note -->\n[link](http://x.y) `<b>` <i>it</i>\n")
    (root / "page.html").write_text(PAGE)
    (root / "picture.png").write_bytes(b"\x89PNG\x00")
    return root


def test_files_are_read_by_suffix_in_order_of_names(folder: Path) -> None:
    documents = {document.id: document.text for document in Files(str(folder)).read()}
    assert list(documents) == ["texts/b/a.md", "texts/c.txt", "texts/page.html"]
    assert documents["texts/c.txt"] == "one\ntwo\nthree"
    assert documents["texts/b/a.md"] == "# Head \nlink `<b>` it\n"
    assert "ships count the turns" in documents["texts/page.html"]
    assert "Cookie" not in documents["texts/page.html"]


def test_a_file_and_a_pattern(folder: Path) -> None:
    assert [d.text for d in Files(str(folder / "c.txt")).read()] == ["one\ntwo\nthree"]
    assert len(list(Files(str(folder / "**" / "*.md")).read())) == 1
    assert [d.text for d in Files(str(folder / "c.txt"), extractor=PlainText()).read()] == ["one\ntwo\nthree"]


def test_markdown_keeps_code_and_drops_markup() -> None:
    text = 'a\n```\n<div> [x](y)\n```\n![alt](p.png) <math><mi>x</mi></math> [see](u "t")\n\n\n\n2 < 3 > 1\n'
    assert Markdown().extract(text.encode(), "x.md") == "a\n```\n<div> [x](y)\n```\nalt $x$ see\n\n2 < 3 > 1\n"


def rows() -> list[dict[str, object]]:
    return [{"text": f"text {i} é", "key": f"k{i}", "n": i} for i in range(5)]


def test_jsonl_gzip_zstd_and_parquet_hold_the_same(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in rows()) + "\n\n"
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows()), tmp_path / "a.parquet")
    wanted = [(row["key"], row["text"]) for row in rows()]
    readers = [
        JSONLines(str(tmp_path / "a.jsonl"), id_field="key"),
        JSONLines(str(tmp_path / "a.jsonl.gz"), id_field="key"),
        ParquetFiles(str(tmp_path / "a.parquet"), id_field="key"),
    ]
    for reader in readers:
        assert [(d.id, d.text) for d in reader.read()] == wanted
    assert [d.id for d in JSONLines(str(tmp_path / "a.jsonl")).read()][:2] == ["a.jsonl:1", "a.jsonl:2"]


def test_zstd(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "packed"}\n'))
    assert [d.text for d in JSONLines(str(tmp_path / "a.jsonl.zst")).read()] == ["packed"]


def test_readers_keep_their_laws(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows()))
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n{"text": ')
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows()), tmp_path / "a.parquet")
    (tmp_path / "bad.parquet").write_text("PAR1")
    (tmp_path / "bad.txt").write_bytes(b"good\xffbad")
    cases: list[tuple[type[Reader], Path, str]] = [
        (Files, folder, "bad.txt"),
        (JSONLines, tmp_path / "a.jsonl", "bad.jsonl"),
        (ParquetFiles, tmp_path / "a.parquet", "bad.parquet"),
    ]
    for reader, good, bad in cases:
        contracts.check_reader(partial(reader, str(good)), (partial(reader, str(tmp_path / bad)), bad))  # type: ignore[call-arg]
    for extractor in (PlainText, Markdown, HTML):
        contracts.check_extractor(extractor, PAGE.encode(), "page.html")


def complaint(reader: Reader) -> str:
    with pytest.raises(UserError) as error:
        list(reader.read())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unreadable_bytes_are_named_or_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine so far \xff\xfe")
    (tmp_path / "b.txt").write_text("good")
    stopping = Files(str(tmp_path), unreadable="stop")
    assert f"{tmp_path / 'a.txt'} is not UTF-8: byte 12 is 0xff; mend it" in complaint(stopping)
    first, second = Files(str(tmp_path)).read()
    assert (first.text, second.text) == ("", "good")
    assert "byte 12 is 0xff" in first.metadata[UNREADABLE]
    (tmp_path / "a.txt").write_bytes(b"null \x00")
    assert "is not text: byte 5 is 0x00" in complaint(stopping)
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    assert "x.jsonl:2 is not UTF-8 at byte 10 (0xff) of the line" in complaint(
        JSONLines(str(tmp_path), unreadable="stop")
    )
    (tmp_path / "x.jsonl").write_text('{"text": "\\ud800"}\n')
    assert "x.jsonl:1: 'text' is not Unicode at character 0" in complaint(JSONLines(str(tmp_path), unreadable="stop"))
    (tmp_path / "x.jsonl").unlink()
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-9])
    assert "x.jsonl.gz:100: the rest cannot be read, it breaks off" in complaint(
        JSONLines(str(tmp_path), unreadable="stop")
    )


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert "there is no file or folder" in complaint(Files(str(tmp_path / "nowhere")))
    assert "holds no files to read (.txt" in complaint(Files(str(tmp_path)))
    assert "holds no files to read" in complaint(JSONLines(str(tmp_path / "*.jsonl")))


def test_wrong_fields_show_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x", "n": 1}\n')
    reader = JSONLines(str(tmp_path), unreadable="stop")
    assert "a.jsonl:1 has no text under 'text' (it has: body, n); set `text_field`" in complaint(reader)
    reader = JSONLines(str(tmp_path), text_field="body", id_field="id", unreadable="stop")
    assert "has no 'id' (it has: body, n); set `id_field`" in complaint(reader)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"body": "x"}]), tmp_path / "a.parquet")
    parquet = ParquetFiles(str(tmp_path), unreadable="stop")
    assert "a.parquet, row 1 has no text under 'text' (it has: body)" in complaint(parquet)


def gold(extractor: Extractor) -> tuple[float, float]:
    """(share of the wanted segments found, share of the unwanted ones found) on real pages."""
    pages = SAMPLES / "web/html"
    if not (pages / "gold_segments.jsonl").is_file():
        pytest.skip(f"{pages} is not there (sample pages are not part of the project)")
    found = {"with": [], "without": []}  # type: dict[str, list[bool]]
    for row in map(json.loads, (pages / "gold_segments.jsonl").read_text().splitlines()):
        text = " ".join(extractor.extract((pages / row["file"]).read_bytes(), row["file"]).split())
        for kind, hits in found.items():
            hits += [" ".join(segment.split()) in text for segment in row[kind]]
    assert len(found["with"]) > 50
    return sum(found["with"]) / len(found["with"]), sum(found["without"]) / len(found["without"])


def test_real_web_pages_give_their_main_text() -> None:
    wanted, unwanted = gold(HTML())
    assert wanted >= 0.9
    assert unwanted <= 0.05


def test_real_web_pages_in_a_hurry() -> None:
    wanted, unwanted = gold(FastHTML())
    assert wanted >= 0.9
    assert unwanted <= 0.05
    assert gold(FastHTML(comments=True))[1] > 0.05  # which is what is asked for beside comments


class Slow(Extractor):
    """Takes its time with pages that say so."""

    def extract(self, content: bytes, name: str) -> str:
        with within(0.05, name):
            while b"slow" in content:
                pass
        return content.decode()


def test_a_page_that_takes_too_long_is_listed(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.html").write_text("slow" if i == 1 else "quick")
    documents = list(Files(str(tmp_path), extractor=Slow()).read())
    assert [d.text for d in documents] == ["quick", "", "quick"]
    assert "1.html: extracting its text took too long (more than 0.05 s)" in documents[1].metadata[UNREADABLE]


def test_many_pages_that_take_too_long_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(20):
        (tmp_path / "in" / f"{i}.html").write_text(f"slow {i}" if i < 4 else f"quick {i}")
    slow = Preparation(readers=[Files(str(tmp_path / "in"), extractor=Slow())], vocab_size=300)
    with pytest.raises(UserError, match="the extraction of 4 of 20 documents took too long; this machine"):
        slow.run(tmp_path / "out", Progress(quiet=True))


@pytest.mark.parametrize(("extractor", "package"), [(HTML, "trafilatura"), (FastHTML, "resiliparse")])
def test_an_extractor_that_cannot_be_imported_says_so_at_once(
    extractor: type[Extractor], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("phi3kit.corpus.extractors.import_module", missing)
    with pytest.raises(UserError, match=rf"needs {package}.*cannot be imported .*; pip install {package}"):
        extractor()


def test_web_archives_give_pages_with_their_addresses(tmp_path: Path) -> None:
    with (tmp_path / "a.warc.gz").open("wb") as archive:
        write_pages(archive, {f"http://pages/{i}": f"The lamp number {i} turns twice a minute." for i in range(3)})
    documents = list(WARC(str(tmp_path)).read())
    assert [d.metadata["url"] for d in documents] == [f"http://pages/{i}" for i in range(3)]
    assert "lamp number 2" in documents[2].text
    assert documents[0].id.endswith("a.warc.gz:1")


def test_a_saved_dataset_is_read_without_its_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets, which writes it, is not installed")
    datasets.Dataset.from_list(rows()).save_to_disk(str(tmp_path / "saved"))
    documents = list(SavedDataset(str(tmp_path / "saved"), id_field="key").read())
    assert [(d.id, d.text) for d in documents] == [(row["key"], row["text"]) for row in rows()]


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of Hugging Face's library that holds someone/lamps, and no network."""
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets, whose cache it is, is not installed")
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "lamps").mkdir()
    datasets.Dataset.from_list(rows()).to_parquet(tmp_path / "lamps/train.parquet")
    cache = tmp_path / "cache"
    datasets.load_dataset_builder(str(tmp_path / "lamps"), cache_dir=str(cache)).download_and_prepare()
    (cache / "lamps").rename(cache / "someone___lamps")  # what it is called there when it comes from the Hub
    return cache


def test_a_data_set_is_read_by_its_name_without_a_network(hub_cache: Path) -> None:
    reader = HubDataset("someone/lamps", cache=str(hub_cache), id_field="key")
    assert [(d.id, d.text) for d in reader.read()] == [(row["key"], row["text"]) for row in rows()]
    assert next(HubDataset("someone/lamps", cache=str(hub_cache)).read()).id == "lamps/lamps-train.arrow:1"
    ((_, file),) = reader.files()
    assert hub_cache in file.parents
    assert reader.parts(file, 2**20)[0].records == len(rows())


def test_a_data_set_that_is_not_there_is_told(hub_cache: Path, tmp_path: Path) -> None:
    def complaint_of(name: str, **options: Any) -> str:
        with pytest.raises(UserError) as told:
            list(HubDataset(name, cache=str(hub_cache), **options).read())
        return str(told.value)

    said = complaint_of("someone/boats")
    assert f"'someone/boats' is neither in the cache {hub_cache} nor to be had from the Hub (Couldn't reach" in said
    assert "load it once where there is a network" in said
    assert "cannot be loaded: Unknown split" in complaint_of("someone/lamps", split="test")
    assert "under 'no_text' (it has: text, key, n); set" in complaint_of(
        "someone/lamps", text_field="no_text", unreadable="stop"
    )


def test_several_fields_make_one_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Lift?", "answer": "Turn."}\n{"question": "Lift?"}\n')
    reader = JSONLines(str(tmp_path), text_field=["question", "answer"], unreadable="stop").read()
    assert next(reader).text == "Lift?\n\nTurn."
    with pytest.raises(UserError, match=r"a\.jsonl:2 has no text under 'answer'"):
        next(reader)
