"""Readers of crawls and of data sets that Hugging Face's library saved: WARC, Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, final

from phi3kit.corpus.extractors import HTML
from phi3kit.corpus.files import UNREADABLE, WHOLE, document_of, each_file, fields_of, find
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


@final
class SavedDataset(Reader):
    """A data set that Hugging Face's ``datasets`` saved with ``save_to_disk``; the library itself is not needed.

    Args:
        path: the folder (of one split: the one with ``state.json``), or one above several splits.
        text_field: the column that holds the text; several: their texts, with a blank line between.
        id_field: the column that holds the id; null: file name and row number.
    """

    def __init__(self, path: str, text_field: str | list[str] = "text", id_field: str | None = None) -> None:
        self.path, self.text_field, self.id_field = path, text_field, id_field

    def read(self) -> Iterator[Document]:
        """All rows of all files, in order. Raises `UserError` naming the file and the row."""
        return each_file(self)

    def files(self) -> list[tuple[str, Path]]:
        """Arrow files."""
        return [(name, file) for name, file in find(self.path, (".arrow",)) if not file.name.startswith("cache-")]

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """The rows of one file."""
        import pyarrow

        columns, number = [*fields_of(self.text_field), self.id_field], 0
        try:
            with pyarrow.memory_map(str(file)) as source:
                for batch in pyarrow.ipc.open_stream(source):
                    for row in batch.select([name for name in batch.schema.names if name in columns]).to_pylist():
                        number += 1
                        place = f"{file}, row {number}"
                        yield document_of(row, place, f"{name}:{number}", self.path, self.text_field, self.id_field)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{file} is not readable as Arrow, after row {number}: {error}") from error
