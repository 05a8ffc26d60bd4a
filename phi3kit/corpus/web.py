"""Reader of crawls: WARC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, final

from phi3kit.corpus.charsets import charset_in
from phi3kit.corpus.extractors import HTML
from phi3kit.corpus.files import UNREADABLE, WHOLE, each_file, find
from phi3kit.corpus.parts import Divisible, Part
from phi3kit.corpus.row_documents import SKIPPED
from phi3kit.errors import UserError
from phi3kit.families import Extractor, Reader
from phi3kit.records import Document

FOUND = ("200", "203")  # 203: as another server has it
PAGES = ("text/html", "application/xhtml+xml")


@final
class WARC(Reader, Divisible):
    """Each HTML page of web archives (.warc, .warc.gz) is a document, under its record's id.

    Pages are what servers answered with status 200: neither errors nor redirects, which are counted with what is not
    HTML. A page that has no readable text is listed among the rejected.

    Args:
        path: a file, a folder (searched with its subfolders) or a pattern with ``*``.
        extractor: turns a page into text; null: HTML.
    """

    def __init__(self, path: str, extractor: Extractor | None = None) -> None:
        self.path, self.extractor = path, extractor or HTML()

    def read(self) -> Iterator[Document]:
        """All pages of all files, in order. Raises `UserError` naming a file that is broken."""
        return each_file(self)

    def files(self) -> list[tuple[str, Path]]:
        """Web archives."""
        return find(self.path, (".warc", ".warc.gz"))

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """The pages of one archive."""
        return self.read_part(name, file, WHOLE)

    def parts(self, file: Path, bytes_at_once: int) -> list[Part]:
        """Records, of whatever type; of archives packed record by record, as they should be."""
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed

        parts = [Part(0, 0, 0)]
        try:
            with file.open("rb") as stream:
                records = ArchiveIterator(stream)
                for number, _ in enumerate(records):
                    start = records.get_record_offset()
                    if start - parts[-1].start >= bytes_at_once:
                        parts.append(Part(start, number, 0))
                    parts[-1] = parts[-1]._replace(records=parts[-1].records + 1)
        except (ArchiveLoadFailed, OSError, EOFError) as error:
            raise UserError(f"{file} is not readable as WARC: {error}") from error
        return parts

    def read_part(self, name: str, file: Path, part: Part) -> Iterator[Document]:
        """The pages of one part."""
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed

        try:
            with file.open("rb") as stream:
                stream.seek(part.start)
                for number, record in enumerate(islice(ArchiveIterator(stream), part.records), start=part.before + 1):
                    if why := _no_page(record):
                        yield Document(f"{name}:{number}", "", self.path, {SKIPPED: why})
                    elif why is not None:
                        yield self._document(record, f"{name}:{number}", f"{file}, record {number}")
        except (ArchiveLoadFailed, OSError, EOFError) as error:
            raise UserError(f"{file} is not readable as WARC: {error}") from error

    def _document(self, record: Any, id: str, place: str) -> Document:
        url, date = (record.rec_headers.get_header(f"WARC-{key}") for key in ("Target-URI", "Date"))
        metadata = {"url": url or "", "date": date or ""}
        try:
            charset = charset_in(_header(record, "Content-Type"))
            text = self.extractor.extract_as(_body(record, url or place), url or place, charset)
        except UserError as error:
            return Document(id, "", self.path, metadata | {UNREADABLE: str(error)})
        return Document(id, text, self.path, metadata)


def _header(record: Any, name: str) -> str:
    """A header of HTTP; empty where there is none."""
    return (record.http_headers.get_header(name) or "").strip() if record.http_headers else ""


def _no_page(record: Any) -> str | None:
    """Why an answer is no page; empty where it is one, None where a record is no answer of a web server."""
    if record.rec_type == "revisit":
        return "a revisit, without content"
    if record.rec_type != "response" or not record.http_headers:
        return None
    if (status := record.http_headers.get_statuscode()) not in FOUND:
        return f"status {status}"
    stated = _header(record, "Content-Type") or record.rec_headers.get_header("WARC-Identified-Payload-Type") or ""
    kind = re.split("[;,]", stated)[0].strip().lower()
    return "" if kind in PAGES else f"{kind or 'no content type'}, not HTML"


def _body(record: Any, place: str) -> bytes:
    """What a server sent, put together from its chunks and unpacked."""
    from warcio.bufferedreaders import BufferedReader, ChunkedDataReader

    packing = _header(record, "Content-Encoding").lower().removeprefix("x-")
    by_warcio = packing if packing in ("gzip", "deflate") else None  # its Brotli fails with newer packages of it
    chunked = "chunked" in _header(record, "Transfer-Encoding").lower()
    body = (ChunkedDataReader if chunked else BufferedReader)(record.raw_stream, decomp_type=by_warcio)
    content: bytes = body.read()
    if by_warcio or packing not in UNPACKERS:
        if by_warcio or packing in ("", "identity", "none") or content.lstrip()[:1] == b"<":  # unpacked by the crawler
            return content
        raise UserError(f"{place} is packed as {packing!r}")
    try:
        return b"" if not content else UNPACKERS[packing](content)
    except ImportError as error:
        raise UserError(f"{place} is packed as {packing!r}, which needs the package {error.name}") from error
    except Exception as error:  # each package has an error of its own
        if content.lstrip()[:1] == b"<":
            return content
        raise UserError(f"{place} cannot be unpacked as {packing!r}: {error}") from error


def _of_zstandard(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


def _of_brotli(content: bytes) -> bytes:
    import brotli

    return bytes(brotli.decompress(content))


UNPACKERS = {"zstd": _of_zstandard, "br": _of_brotli}
