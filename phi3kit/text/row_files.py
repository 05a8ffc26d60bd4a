"""Files of rows: JSONL, a JSON array, Parquet, packed or not, one or a folder of them.

Each row comes with its place, ``file:line`` (of Parquet ``file, row N``). What cannot be read comes as a `Broken` with
its place, so that its reader decides whether to stop.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from phi3kit.errors import UserError
from phi3kit.text.packed import opened

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
PACKED = ("", ".gz", ".zst")
ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}  # of folders that others publish
ROWS = ("data", "rows", "examples", "train")  # where a JSON object keeps its rows
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class Broken(NamedTuple):
    """What stands where a row should, and cannot be read."""

    reason: str


class Place(NamedTuple):
    """A row, or what is broken there, with its place and its file."""

    name: str
    row: Any
    file: Path


def rows_at(path: Path) -> Iterator[Place]:
    """The rows of a file, or of all files of a folder in order of their names.

    Raises:
        UserError: there is no such file, or it cannot be read at all.
    """
    for file in files_at(path):
        for name, row in rows_of(file):
            yield Place(name, row, file)


def files_at(path: Path) -> list[Path]:
    """The file, or a folder's files of rows. Raises `UserError` where there is none."""
    if path.is_dir():
        endings = tuple(kind + packed for kind in SUFFIXES for packed in PACKED)
        found = sorted(
            file
            for file in path.rglob("*")
            if file.is_file()
            and file.name.endswith(endings)
            and file.name not in ABOUT
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not found:
            raise UserError(f"{path} holds no files of rows ({', '.join(SUFFIXES)}; also .gz, .zst)")
        return found
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}")
    return [path]


def rows_of(file: Path) -> Iterator[tuple[str, Any]]:
    """(place, row or `Broken`) of a file. Raises `UserError` where it cannot be read at all."""
    if file.suffix == ".parquet":
        yield from _parquet(file)
        return
    lines = _lines(file)
    first = next(lines, None)
    if first is None:
        return
    if _is_array(file, first.text):
        yield from _array(file, first.text + "".join(line.text for line in lines))
        return
    for number, (text, bad) in enumerate(_again(first, lines), start=1):
        if bad:
            yield f"{file}:{number}", Broken(bad)
        elif text.strip():
            yield f"{file}:{number}", _parsed(text)


class _Line(NamedTuple):
    text: str
    bad: str = ""


def _again(first: _Line, others: Iterator[_Line]) -> Iterator[_Line]:
    yield first
    yield from others


def _is_array(file: Path, first: str) -> bool:
    """Whether a file is one JSON value over all its lines, not one on each."""
    begins = first.lstrip()
    if begins[:1] == "[":  # several rows, one of which may be a list of turns on a line of its own
        row = _parsed(begins)
        return isinstance(row, Broken) or not _is_turns(row)
    named = file.name.removesuffix(".gz").removesuffix(".zst").endswith(".json")
    return named and (not begins or isinstance(_parsed(begins), Broken) or _kept(_parsed(begins)) is not None)


def _is_turns(row: Any) -> bool:
    return bool(row) and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in row)


def _kept(row: Any) -> Any:
    """The rows that an object keeps, where it is nothing but their box."""
    if isinstance(row, dict) and not row.keys() & {"messages", "conversations", "conversation"}:
        lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1 and lists[0] in ROWS:
            return row[lists[0]]
    return None


def _array(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    """The rows of an array, each with the line on which it begins."""
    decoder = json.JSONDecoder()
    at = _skipped(text, 0)
    if text[at] != "[":
        try:
            rows = _kept(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} is neither a JSON array nor one row per line: {error}") from error
        if rows is None:
            raise UserError(f"{file} is one JSON object, no array of rows (nor has it one under {', '.join(ROWS)})")
        yield from ((f"{file}, row {number}", row) for number, row in enumerate(rows, start=1))
        return
    line, counted = 1, 0
    at = _skipped(text, at + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            row, end = decoder.raw_decode(text, at)
            at = _skipped(text, end)
            if text[at : at + 1] not in (",", "]"):
                raise ValueError("a comma or ] is expected after it")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}:{line}: the array is not JSON from here on: {error}") from error
        yield f"{file}:{line}", row
        if text[at] == ",":
            at = _skipped(text, at + 1)


def _skipped(text: str, at: int) -> int:
    """The place of what follows white space."""
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        return Broken("is not JSON that can be read: nested too deeply")
    except ValueError as error:
        return Broken(f"is not JSON: {error}")


def _lines(file: Path) -> Iterator[_Line]:
    """The lines of a text file; of one that is no text, what is wrong with it."""
    try:
        with file.open("rb") as raw:
            stream, unpacked = opened(raw, file)
            begin = stream.peek(4)[:4]
            mark = next((mark for mark in MARKS if begin.startswith(mark)), b"")
            stream.read(len(mark))
            if MARKS.get(mark, "utf-8") != "utf-8":
                yield from map(_Line, stream.read().decode(MARKS[mark]).splitlines(keepends=True))
                return
            for line in stream:
                try:
                    yield _Line(line.decode("utf-8"))
                except UnicodeDecodeError as error:
                    yield _Line("", f"is not UTF-8 at byte {error.start} (0x{line[error.start]:02x}) of the line")
            if unpacked is not None and unpacked.broken:
                yield _Line("", f"and what follows cannot be read: {unpacked.broken}")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from error


def _parquet(file: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1000):
            for row in batch.to_pylist():
                number += 1
                yield f"{file}, row {number}", row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not Parquet{f' after row {number}' if number else ''}: {error}") from error
