"""Reader of crawls: WARC."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, final

from phi3kit.corpus.extractors import HTML
from phi3kit.corpus.files import UNREADABLE, WHOLE, each_file, find
from phi3kit.corpus.parts import Divisible, Part
from phi3kit.errors import UserError
from phi3kit.families import Extractor, Reader
from phi3kit.records import Document

PAGES = ("text/html", "application/xhtml+xml")


@final
class WARC(Reader, Divisible):
    """Each HTML page of web archives (.warc, .warc.gz) is a document, under its record's id.

    A page that has no readable text is listed among the rejected.

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
                    if record.rec_type == "response" and _is_page(record):
                        yield self._document(record, f"{name}:{number}", f"{file}, record {number}")
        except (ArchiveLoadFailed, OSError, EOFError) as error:
            raise UserError(f"{file} is not readable as WARC: {error}") from error

    def _document(self, record: Any, id: str, place: str) -> Document:
        url, date = (record.rec_headers.get_header(f"WARC-{key}") for key in ("Target-URI", "Date"))
        metadata = {"url": url or "", "date": date or ""}
        try:
            text = self.extractor.extract(record.content_stream().read(), url or place)
        except UserError as error:
            return Document(id, "", self.path, metadata | {UNREADABLE: str(error)})
        return Document(id, text, self.path, metadata)


def _is_page(record: Any) -> bool:
    headers = record.http_headers
    kind = (headers.get_header("Content-Type") or "") if headers else ""
    return any(page in kind for page in PAGES)
