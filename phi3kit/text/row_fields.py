"""A row's fields, as their reader takes them: what nobody asked for is known, and can be told."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


class BadRow(Exception):
    """What is wrong with a row, to be told with its place."""


class UnknownShape(BadRow):
    """The row is of no accepted shape at all."""


class Fields:
    """The fields of a row or of a turn; null and NaN, which tables put where a row lacks a field, count as absent.

    Args:
        row: as read.
        names: what fields are called here, where they have names of their own: our name -> theirs; to null: there is
            no such field, and one of that name is something else.
    """

    def __init__(self, row: Mapping[str, Any], names: Mapping[str, str | None] | None = None) -> None:
        names = names or {}
        ours = {theirs: name for name, theirs in names.items() if theirs is not None and theirs in row}
        hidden = {name for name, theirs in names.items() if theirs is None} | {*ours.values()}
        given = {key: value for key, value in row.items() if not absent(value)}
        self.all = {ours[key]: value for key, value in given.items() if key in ours}
        self.unused = {key for key in given if key in hidden and key not in ours}
        self.all |= {key: value for key, value in given.items() if key not in ours and key not in hidden}
        self.unused |= {key for key, value in self.all.items() if value not in ("", [], {})}

    def __contains__(self, name: str) -> bool:
        return name in self.all

    def take(self, *names: str) -> Any:
        """The first of these fields that is there, or None."""
        for name in names:
            if name in self.all:
                self.unused.discard(name)
                return self.all[name]
        return None

    def text(self, *names: str) -> str:
        """The first of these fields that is there, "" without one. Raises `BadRow` where it is no text."""
        value = self.take(*names)
        if value is not None and not isinstance(value, str):
            raise BadRow(f"{next(name for name in names if name in self)} is {short(value)}; a text is expected")
        return unicode_text(value or "", names[0])


def unicode_text(text: str, where: str) -> str:
    """The text. Raises `BadRow` where it holds half a character (a lone surrogate), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise BadRow(f"{where} is not Unicode at character {error.start} ({half}, half of a character)") from error
    return text


def absent(value: Any) -> bool:
    """Whether a value says that there is none."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 160 else text[:157] + "..."


def plain(value: Any) -> Any:
    """What JSON can say: times, bytes and other things become text, NaN null, and half a character a mark."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def without_nulls(value: Any) -> Any:
    """A description without the null fields that a table gives to rows which lack what others have."""
    if isinstance(value, Mapping):
        return {str(key): without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list | tuple) else value
