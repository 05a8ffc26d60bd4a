"""Readers of people's own documents: text, Markdown, HTML, JSONL, Parquet.

A document's id is ``folder/path/in/it`` (and the line or row), so it stays the same wherever the folder lies.
"""

from __future__ import annotations

import glob
import gzip
import io
import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, final

from phi3kit.corpus.extractors import HTML, TIMED_OUT, Markdown, PlainText
from phi3kit.corpus.parts import AT_ONCE, Divisible, Part, joined, parts_of_lines
from phi3kit.errors import UserError
from phi3kit.families import Extractor, Reader
from phi3kit.records import Document

BY_SUFFIX: dict[str, type[Extractor]] = {
    **dict.fromkeys((".txt", ".text", ".rst", ".py"), PlainText),
    **dict.fromkeys((".md", ".markdown"), Markdown),
    **dict.fromkeys((".html", ".htm", ".xhtml"), HTML),
}
ROWS_AT_ONCE = 1000  # of a Parquet or Arrow file in memory
PACKED_PARTS = 8  # of a packed file: whoever reads a part of it unpacks all before it
WHOLE = Part(0, 0, 2**62)
UNREADABLE = "unreadable"  # metadata key: why a document has no text; `prepare` rejects and lists it


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
        unreadable: "stop" at a file that cannot be read, or "skip" it and list it among the rejected.
    """

    def __init__(
        self, path: str, extractor: Extractor | None = None, unreadable: Literal["stop", "skip"] = "stop"
    ) -> None:
        self.path, self.extractor, self.unreadable = path, extractor, unreadable

    def read(self) -> Iterator[Document]:
        """All files, in order of names. Raises `UserError` naming the file and the byte."""
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
    """

    def __init__(self, path: str, text_field: str | list[str] = "text", id_field: str | None = None) -> None:
        self.path, self.text_field, self.id_field = path, text_field, id_field

    def read(self) -> Iterator[Document]:
        """All lines of all files, in order. Raises `UserError` naming the file and the line."""
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
                parts = parts_of_lines(_unpacked(raw, file), bytes_at_once)
        except (OSError, EOFError) as error:
            raise UserError(f"cannot read {file}: {error}") from error
        return joined(parts, PACKED_PARTS) if file.suffix in (".gz", ".zst") else parts

    def read_part(self, name: str, file: Path, part: Part) -> Iterator[Document]:
        """The lines of one part."""
        for number, line in enumerate(_lines(file, part), start=part.before + 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{file}:{number} is not JSON: {error}") from error
                place = f"{file}:{number}"
                yield document_of(row, place, f"{name}:{number}", self.path, self.text_field, self.id_field)


@final
class ParquetFiles(Reader, Divisible):
    """Each row of a .parquet file is a document.

    Args:
        path: a file, a folder (searched with its subfolders) or a pattern with ``*``.
        text_field: the column that holds the text; several: their texts, with a blank line between.
        id_field: the column that holds the id; null: file name and row number.
    """

    def __init__(self, path: str, text_field: str | list[str] = "text", id_field: str | None = None) -> None:
        self.path, self.text_field, self.id_field = path, text_field, id_field

    def read(self) -> Iterator[Document]:
        """All rows of all files, in order. Raises `UserError` naming the file and the row."""
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
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{file} is not readable as Parquet: {error}") from error
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

        columns = [field for field in (*fields_of(self.text_field), self.id_field) if field]
        try:
            table = pyarrow.parquet.ParquetFile(file)
            chosen = columns if {*columns} <= {*table.schema_arrow.names} else None  # all: to be named
            groups = range(part.start, table.num_row_groups)
            batches = table.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=groups, columns=chosen)
            rows = islice((row for batch in batches for row in batch.to_pylist()), part.records)
            for number, row in enumerate(rows, start=part.before + 1):
                place = f"{file}, row {number}"
                yield document_of(row, place, f"{name}:{number}", self.path, self.text_field, self.id_field)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{file} is not readable as Parquet: {error}") from error


def fields_of(text_field: str | list[str]) -> list[str]:
    """The keys that hold a text."""
    return [text_field] if isinstance(text_field, str) else text_field


def document_of(
    row: Any, place: str, id: str, source: str, text_field: str | list[str], id_field: str | None
) -> Document:
    """A row as a document. Raises `UserError` with the place where it has no text or no id."""
    for field in fields_of(text_field):
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            keys = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise UserError(f"{place} has no text under {field!r} (it has: {keys}); set `text_field`")
        try:
            row[field].encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{place}: {field!r} is not Unicode at character {error.start}") from error
    if id_field is not None and row.get(id_field) is None:
        raise UserError(f"{place} has no {id_field!r} (it has: {', '.join(row)}); set `id_field`")
    text = "\n\n".join(row[field] for field in fields_of(text_field))
    return Document(str(row[id_field]) if id_field else id, text, source)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error


def _lines(file: Path, part: Part) -> Iterator[str]:
    """Lines of a JSONL file, one at a time, unpacked by its suffix."""
    number = part.before
    try:
        with file.open("rb") as raw:
            stream = _unpacked(raw, file)
            _skip(stream, part.start)
            lines = islice(stream, part.records)
            for number, line in enumerate(lines, start=part.before + 1):  # noqa: B007 (told on error)
                yield line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise UserError(f"{file}:{number} is not UTF-8 at byte {error.start} (0x{bad:02x}) of the line") from error
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read {file}: {error}") from error


def _skip(stream: Any, n: int) -> None:
    """Go on by so many bytes: a packed stream is unpacked to there."""
    if n and isinstance(stream, io.BufferedReader) and stream.seekable():
        stream.seek(n)
        return
    while n and (block := stream.read(min(n, AT_ONCE))):
        n -= len(block)


def _unpacked(raw: io.BufferedReader, file: Path) -> Any:
    if file.suffix == ".gz":
        return gzip.open(raw)
    if file.suffix != ".zst":
        return raw
    try:
        import zstandard
    except ImportError as error:
        raise UserError(f"{file}: .zst needs the package zstandard; pip install zstandard") from error
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))
