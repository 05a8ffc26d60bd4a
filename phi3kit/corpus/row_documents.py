"""Rows of data files as documents; what is wrong with a row travels with it, so that `prepare` can list it.

Every reader of rows has the option `unreadable`: "skip" leaves such a row, or the rest of such a file, out and lists
it among the rejected with its place; "stop" stops there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from phi3kit.errors import UserError
from phi3kit.records import Document

UNREADABLE = "unreadable"  # metadata key: why a document has no text; `prepare` rejects and lists it
SKIPPED = "skipped"  # metadata of what is no document, as an error page; the value says of which kind it is
Unreadable = Literal["skip", "stop"]
KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping", bytes: "bytes"}


def fields_of(text_field: str | list[str]) -> list[str]:
    """The keys that hold a text."""
    return [text_field] if isinstance(text_field, str) else text_field


def document_of(
    row: Any,
    place: str,
    id: str,
    source: str,
    text_field: str | list[str],
    id_field: str | None,
    unreadable: Unreadable = "skip",
) -> Document:
    """A row as a document; one that has no text or no id as `left_out` says.

    Args:
        row: of a file.
        place: the file, and where in it the row is.
        id: where it has none of its own.
        source: of the document.
        text_field: the key that holds the text, or several.
        id_field: the key that holds the id.
        unreadable: what to do where it has none.
    """
    if reason := _fault(row, fields_of(text_field), id_field):
        return left_out(id, source, f"{place}{reason}", unreadable)
    text = "\n\n".join(row[field] for field in fields_of(text_field))
    return Document(str(row[id_field]) if id_field else id, text, source)


def left_out(id: str, source: str, reason: str, unreadable: Unreadable) -> Document:
    """A document without text that says why. Raises `UserError` where that stops everything."""
    if unreadable == "stop":
        raise UserError(f"{reason}; mend it, or set `unreadable: skip` to leave such rows out")
    return Document(id, "", source, {UNREADABLE: reason})


def rows_of(batch: Any) -> Iterator[Any]:
    """The rows of an Arrow batch; in place of one whose text is not UTF-8, that it is not."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield error


def _fault(row: Any, fields: list[str], id_field: str | None) -> str | None:
    """What is wrong with a row, to be read after its place; None where nothing is."""
    if isinstance(row, UnicodeDecodeError):
        return f" is not UTF-8 (0x{row.object[row.start]:02x})"
    if not isinstance(row, dict):
        return f" is {_kind(row)}, not a row with {fields[0]!r}"
    for field in fields:
        if field not in row:
            return f" has no text under {field!r} (it has: {', '.join(map(str, row))}); set `text_field`"
        if not isinstance(row[field], str):
            return f": {field!r} is {_kind(row[field])}, not a text"
        try:
            row[field].encode()
        except UnicodeEncodeError as error:
            return f": {field!r} is not Unicode at character {error.start}"
    if id_field is not None and row.get(id_field) in (None, ""):
        return f" has no {id_field!r} (it has: {', '.join(map(str, row))}); set `id_field`"
    return None


def _kind(value: Any) -> str:
    return "null" if value is None else KINDS.get(type(value), type(value).__name__)
