"""Web archives: which records are pages, and what servers pack them in."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from phi3kit.corpus import WARC
from phi3kit.corpus.files import UNREADABLE

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
    assert len(list(WARC(str(tmp_path)).read())) == 2


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
