"""Readers of people's own documents: text, Markdown, HTML, JSONL, Parquet.

A document's id is ``folder/path/in/it`` (and the line or row), so it stays the same wherever the folder lies.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, final

from phi3kit.corpus.extractors import HTML, TIMED_OUT, PlainText
from phi3kit.corpus.markdown import Markdown
from phi3kit.corpus.parts import AT_ONCE, Divisible, Part, joined, parts_of_lines
from phi3kit.corpus.row_documents import UNREADABLE, Unreadable, document_of, fields_of, left_out, rows_of
from phi3kit.errors import UserError
from phi3kit.families import Extractor, Reader
from phi3kit.records import Document
from phi3kit.text.packed import opened

BY_SUFFIX: dict[str, type[Extractor]] = {
    **dict.fromkeys((".txt", ".text", ".rst", ".py"), PlainText),
    **dict.fromkeys((".md", ".markdown"), Markdown),
    **dict.fromkeys((".html", ".htm", ".xhtml"), HTML),
}
ROWS_AT_ONCE = 1000  # of a Parquet or Arrow file in memory
PACKED_PARTS = 8  # of a packed file: whoever reads a part of it unpacks all before it
WHOLE = Part(0, 0, 2**62)
BOM = "\ufeff"  # at the start of what Windows saves, and wherever such files were put together


def find(path: str, suffixes: tuple[str, ...] = ()) -> list[tuple[str, Path]]:
    """(name for ids, file) of every file at `path`, in order of names.

    Args:
        path: a file, a folder (searched with its subfolders) or a pattern with ``*``.
        suffixes: which files count in a folder; empty means all.
    """
    root = Path(path)
    if any(character in path for character in "*?["):
        names = sorted(glob.glob(path, recursive=True))
        found = [(name, Path(name)) for name in names if Path(name).is_file()]
    elif root.is_dir():
        files = (f for f in root.rglob("*") if f.is_file() and (not suffixes or f.name.endswith(suffixes)))
        found = sorted((f"{root.resolve().name}/{f.relative_to(root).as_posix()}", f) for f in files)
    elif root.exists():
        found = [(root.name, root)]
    else:
        raise UserError(f"there is no file or folder {path!r}; give one that exists, or a pattern with *")
    if not found:
        kinds = f" ({', '.join(suffixes)})" if suffixes else ""
        raise UserError(f"{path!r} holds no files to read{kinds}")
    return found


@final
class Files(Reader):
    """Each file is a document.

    Args:
        path: a file, a folder (searched with its subfolders) or a pattern with ``*``.
        extractor: turns a file into text; null: by its suffix (.txt .text .rst .py, .md .markdown, .html .htm
            .xhtml), and other files in a folder are left alone.
        unreadable: "skip" a file that cannot be read and list it among the rejected, or "stop" there.
    """

    def __init__(self, path: str, extractor: Extractor | None = None, unreadable: Unreadable = "skip") -> None:
        self.path, self.extractor, self.unreadable = path, extractor, unreadable

    def read(self) -> Iterator[Document]:
        """All files, in order of names; with `unreadable: stop` it raises `UserError` naming the file and the byte."""
        return each_file(self)

    def files(self) -> list[tuple[str, Path]]:
        """Files of the kinds it reads."""
        return find(self.path, () if self.extractor else tuple(BY_SUFFIX))

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """One file, one document."""
        extractor = self.extractor or _extractor_for(file.suffix)
        try:
            text = extractor.extract(_bytes(file), str(file))
        except UserError as error:
            if self.unreadable == "stop" and TIMED_OUT not in str(error):
                raise UserError(f"{error}; mend it, or set `unreadable: skip` to leave such files out") from error
            yield Document(name, "", self.path, {UNREADABLE: str(error)})
        else:
            yield Document(name, text, self.path)


@cache
def _extractor_for(suffix: str) -> Extractor:
    return BY_SUFFIX.get(suffix, PlainText)()


def each_file(reader: Reader) -> Iterator[Document]:
    """A reader's files, one after the other."""
    for name, file in reader.files():
        yield from reader.read_file(name, file)


@final
class JSONLines(Reader, Divisible):
    """Each line of a .jsonl file (also .gz, .zst) is a document.

    Args:
        path: a file, a folder (searched with its subfolders) or a pattern with ``*``.
        text_field: the key that holds the text; several: their texts, with a blank line between.
        id_field: the key that holds the id; null: file name and line number.
        unreadable: "skip" what cannot be read and list it among the rejected, or "stop" there.
    """

    def __init__(
        self,
        path: str,
        text_field: str | list[str] = "text",
        id_field: str | None = None,
        unreadable: Unreadable = "skip",
    ) -> None:
        self.path, self.text_field, self.id_field, self.unreadable = path, text_field, id_field, unreadable

    def read(self) -> Iterator[Document]:
        """All lines of all files. Raises `UserError` naming the file and the line, with `unreadable: stop`."""
        return each_file(self)

    def files(self) -> list[tuple[str, Path]]:
        """JSONL files."""
        return find(self.path, (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson"))

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """The lines of one file."""
        return self.read_part(name, file, WHOLE)

    def parts(self, file: Path, bytes_at_once: int) -> list[Part]:
        """Lines; of a packed file, in a few parts."""
        try:
            with file.open("rb") as raw:
                stream, unpacked = opened(raw, file)
                parts = parts_of_lines(stream, bytes_at_once)
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror or error}") from error
        if unpacked is None:
            return parts
        parts = joined(parts, PACKED_PARTS)
        return parts if unpacked.broken is None else [*parts[:-1], parts[-1]._replace(records=WHOLE.records)]

    def read_part(self, name: str, file: Path, part: Part) -> Iterator[Document]:
        """The lines of one part."""
        for number, line in _lines(file, part):
            id, place = f"{name}:{number}", f"{file}:{number}"
            if isinstance(line, _Broken):
                yield left_out(id, self.path, f"{place}: the rest cannot be read, {line.reason}", self.unreadable)
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8").removeprefix(BOM))
            except UnicodeDecodeError as error:
                bad = f"is not UTF-8 at byte {error.start} (0x{line[error.start]:02x}) of the line"
                yield left_out(id, self.path, f"{place} {bad}", self.unreadable)
            except (ValueError, RecursionError) as error:
                yield left_out(id, self.path, f"{place} is not JSON: {error}", self.unreadable)
            else:
                yield document_of(row, place, id, self.path, self.text_field, self.id_field, self.unreadable)


@final
class ParquetFiles(Reader, Divisible):
    """Each row of a .parquet file is a document.

    Args:
        path: a file, a folder (searched with its subfolders) or a pattern with ``*``.
        text_field: the column that holds the text; several: their texts, with a blank line between.
        id_field: the column that holds the id; null: file name and row number.
        unreadable: "skip" what cannot be read and list it among the rejected, or "stop" there.
    """

    def __init__(
        self,
        path: str,
        text_field: str | list[str] = "text",
        id_field: str | None = None,
        unreadable: Unreadable = "skip",
    ) -> None:
        self.path, self.text_field, self.id_field, self.unreadable = path, text_field, id_field, unreadable

    def read(self) -> Iterator[Document]:
        """All rows of all files, in order. Raises `UserError` naming the file and the row, with `unreadable: stop`."""
        return each_file(self)

    def files(self) -> list[tuple[str, Path]]:
        """Parquet files."""
        return find(self.path, (".parquet",))

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """The rows of one file."""
        return self.read_part(name, file, WHOLE)

    def parts(self, file: Path, bytes_at_once: int) -> list[Part]:
        """Row groups."""
        import pyarrow
        import pyarrow.parquet

        try:
            about = pyarrow.parquet.ParquetFile(file).metadata
        except pyarrow.ArrowException:
            return [WHOLE]  # whoever reads it says so
        except OSError as error:
            raise UserError(f"cannot read {file}: {error}") from error
        parts: list[Part] = []
        size = rows = 0
        for i in range(about.num_row_groups):
            group = about.row_group(i)
            if parts and size < bytes_at_once:
                parts[-1] = parts[-1]._replace(records=parts[-1].records + group.num_rows)
            else:
                parts.append(Part(i, rows, group.num_rows))
                size = 0
            size += sum(group.column(j).total_compressed_size for j in range(group.num_columns))
            rows += group.num_rows
        return parts

    def read_part(self, name: str, file: Path, part: Part) -> Iterator[Document]:
        """The rows of one part."""
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
        except (pyarrow.ArrowException, OSError) as error:
            reason = f"{file} is not readable as Parquet: {first_line(error)}"
            yield left_out(name, self.path, reason, self.unreadable)
            return
        number = part.before
        for group in range(part.start, table.num_row_groups):
            end = number + table.metadata.row_group(group).num_rows
            if number >= part.before + part.records:
                return
            try:
                for row in self._rows(table, group):
                    number += 1
                    yield self._document(row, name, file, number)
            except (pyarrow.ArrowException, OSError) as error:
                for row_number in range(number + 1, end + 1):
                    reason = f"{file}, row {row_number} cannot be read: {first_line(error)}"
                    yield left_out(f"{name}:{row_number}", self.path, reason, self.unreadable)
            number = end

    def _rows(self, table: Any, group: int) -> Iterator[dict[str, Any]]:
        columns = [field for field in (*fields_of(self.text_field), self.id_field) if field]
        chosen = columns if {*columns} <= {*table.schema_arrow.names} else None  # all: to be named
        for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group], columns=chosen):
            yield from rows_of(batch)

    def _document(self, row: dict[str, Any], name: str, file: Path, number: int) -> Document:
        place = f"{file}, row {number}"
        id = f"{name}:{number}"
        return document_of(row, place, id, self.path, self.text_field, self.id_field, self.unreadable)


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return str(error).partition("\n")[0].rstrip(". ")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error


class _Broken(NamedTuple):
    """Stands where lines would follow, had the file not broken off."""

    reason: str


def _lines(file: Path, part: Part) -> Iterator[tuple[int, bytes | _Broken]]:
    """(number, line) of a JSONL file, one at a time, unpacked by its suffix; at last, that it breaks off."""
    number = part.before
    try:
        with file.open("rb") as raw:
            stream, unpacked = opened(raw, file)
            _skip(stream, part.start)
            for line in islice(stream, part.records):
                if unpacked is None or not unpacked.broken or line.endswith(b"\n"):  # half a line is none
                    number += 1
                    yield number, line
            if unpacked is not None and unpacked.broken:
                yield number + 1, _Broken(unpacked.broken)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def _skip(stream: Any, n: int) -> None:
    """Go on by so many bytes: a packed stream is unpacked to there."""
    if n and stream.seekable():
        stream.seek(n)
        return
    while n and (block := stream.read(min(n, AT_ONCE))):
        n -= len(block)
