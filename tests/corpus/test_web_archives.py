"""Web archives: which records are pages, and what servers pack them in."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from phi3kit.corpus import WARC, Local, Preparation, Progress
from phi3kit.corpus.files import UNREADABLE
from phi3kit.corpus.manifest import headline
from phi3kit.corpus.row_documents import SKIPPED
from phi3kit.errors import UserError

TEXT = (
    "The lamp on the harbour wall turns twice a minute, and ships count the turns; the café knows where they are. " * 4
)
PAGE = f"<html><head><title>t</title></head><body><article><h1>Head</h1><p>{TEXT}</p></article></body></html>".encode()


def archive(path: Path, *answers: tuple[str, dict[str, str], bytes], kind: str = "response") -> WARC:
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for number, (status, headers, body) in enumerate(answers):
            http = StatusAndHeaders(status, list(headers.items()), protocol="HTTP/1.1")
            url = f"http://example.org/{number}"
            writer.write_record(writer.create_warc_record(url, kind, payload=io.BytesIO(body), http_headers=http))
        writer.write_record(
            writer.create_warc_record(
                "dns:example.org", "response", payload=io.BytesIO(b"x"), warc_content_type="text/dns"
            )
        )
    return WARC(str(path))


def pages(reader: WARC) -> list[str]:
    return [document.metadata["url"].rpartition("/")[2] for document in reader.read() if TEXT.strip() in document.text]


def test_pages_are_what_servers_answered_with_success(tmp_path: Path) -> None:
    statuses = [
        "200 OK",
        "404 Not Found",
        "301 Moved",
        "503 Service Unavailable",
        "200",
        "304 Not Modified",
        "206 Partial",
    ]
    answers = [(status, {"Content-Type": "text/html"}, PAGE) for status in statuses]
    assert pages(archive(tmp_path / "a.warc.gz", *answers)) == ["0", "4"]
    skipped = [document.metadata.get(SKIPPED) for document in WARC(str(tmp_path)).read()]
    assert skipped == [None, "status 404", "status 301", "status 503", None, "status 304", "status 206"]


def test_kinds_of_content_in_any_case(tmp_path: Path) -> None:
    kinds = [
        "Text/HTML; charset=UTF-8",
        "application/xhtml+xml",
        "TEXT/HTML;charset=utf-8",
        "text/htmlx",
        "image/png",
        "text/plain; a=text/html",
    ]
    answers = [("200 OK", {"content-type": kind}, PAGE) for kind in kinds]
    assert pages(archive(tmp_path / "a.warc.gz", *answers)) == ["0", "1", "2"]
    assert pages(archive(tmp_path / "b.warc.gz", *answers, kind="revisit")) == []


def test_what_servers_pack_pages_in(tmp_path: Path) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (PAGE[:50], PAGE[50:])) + b"0\r\n\r\n"
    bodies = [
        ({"Content-Encoding": "gzip"}, gzip.compress(PAGE)),
        ({"Content-Encoding": "X-GZIP"}, gzip.compress(PAGE)),
        ({"Content-Encoding": "zstd"}, zstandard.compress(PAGE)),
        ({"Transfer-Encoding": "Chunked"}, chunks),
        ({"Content-Encoding": "gzip"}, PAGE),  # unpacked by the crawler
        ({"Transfer-Encoding": "chunked"}, PAGE),
        ({"Content-Encoding": "unheard-of"}, PAGE),
    ]
    answers = [("200 OK", {"Content-Type": "text/html", **headers}, body) for headers, body in bodies]
    assert pages(archive(tmp_path / "a.warc.gz", *answers)) == [str(i) for i in range(7)]
    answers = [("200 OK", {"Content-Type": "text/html", "Content-Encoding": "unheard-of"}, b"\x00\x01")]
    (document,) = archive(tmp_path / "b.warc.gz", *answers).read()
    assert document.metadata[UNREADABLE] == "http://example.org/0 is packed as 'unheard-of'"


def test_brotli(tmp_path: Path) -> None:
    brotli = pytest.importorskip("brotli")
    headers = {"Content-Type": "text/html", "Content-Encoding": "br"}
    assert pages(archive(tmp_path / "a.warc.gz", ("200 OK", headers, brotli.compress(PAGE)))) == ["0"]


def test_the_servers_charset_is_the_pages(tmp_path: Path) -> None:
    latin = PAGE.decode().replace("café", "caf\u00e9 Stra\u00dfe").encode("latin-1")
    (document,) = archive(
        tmp_path / "a.warc.gz", ("200 OK", {"Content-Type": "text/html; charset=ISO-8859-1"}, latin)
    ).read()
    assert "café Straße" in document.text


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_page_is_counted_by_kind(tmp_path: Path, workers: int) -> None:
    html = {"Content-Type": "text/html"}
    answers = [
        *[("200 OK", html, PAGE.replace(b"</p>", b" %d</p>" % i)) for i in range(30)],
        *[("404 Not Found", html, PAGE)] * 3,
        ("301 Moved", html, b""),
        *[("200 OK", {"Content-Type": "image/png"}, b"x")] * 2,
        ("200 OK", {}, b"x"),
    ]
    reader = archive(tmp_path / "a.warc.gz", *answers)
    asked = Preparation(readers=[reader], vocab_size=300, holdout=0.1, executor=Local(workers))
    manifest = asked.run(tmp_path / "out", Progress(quiet=True))
    kinds = {"status 404": 3, "image/png, not HTML": 2, "status 301": 1, "no content type, not HTML": 1}
    assert manifest["skipped"] == {reader.path: kinds}
    assert manifest["read"] == 30
    told = ", ".join(f"{n} × {kind}" for kind, n in kinds.items())
    assert f"{reader.path}: skipped, for they are no documents: {told}" in headline(manifest)


def test_an_archive_without_a_page_says_what_it_has(tmp_path: Path) -> None:
    reader = archive(tmp_path / "a.warc.gz", *[(f"{500 + i} No", {"Content-Type": "text/html"}, b"") for i in range(6)])
    with pytest.raises(UserError, match=r"found no documents.*a.warc.gz has 1 × status 500, .*, 2 more kinds"):
        Preparation(readers=[reader], vocab_size=300).run(tmp_path / "out", Progress(quiet=True))
