"""Files of conversations and preferences, as people have them and as `prepare` writes them.

`row_files` says what may be a file, `chat_shapes` and `preference_shapes` what a row may look like.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from phi3kit.errors import UserError
from phi3kit.records import Conversation, Message, Preference
from phi3kit.text.chat_shapes import SHAPES, Dialect, Found, conversation_of
from phi3kit.text.chat_tally import Tally, Unreadable
from phi3kit.text.preference_shapes import preference_of
from phi3kit.text.row_fields import BadRow, UnknownShape, short
from phi3kit.text.row_files import Broken, rows_at

Row = dict[str, Any]
T = TypeVar("T", Conversation, Preference)


def read_conversations(
    path: Path, unreadable: Unreadable = "stop", dialect: Dialect | None = None
) -> list[Conversation]:
    """Conversations of a file or folder, in order; what is not used of their rows is said on stderr.

    Raises `UserError` with file and line of a row that cannot be used, or, with `unreadable` "skip", where most cannot.
    """
    return _said(list(conversations_of(path, tally := Tally(path, unreadable), dialect)), tally)


def read_preferences(path: Path, unreadable: Unreadable = "stop", dialect: Dialect | None = None) -> list[Preference]:
    """Preferences of a file or folder, in order; what `chosen` and `rejected` repeat of the prompt is taken off.

    Says and raises what `read_conversations` does.
    """
    return _said(list(preferences_of(path, tally := Tally(path, unreadable), dialect)), tally)


def conversations_of(path: Path, tally: Tally, dialect: Dialect | None = None) -> Iterator[Conversation]:
    """Conversations of a file or folder, in order, counted and not said. Raises as `read_conversations` does."""
    return _read(path, conversation_of, tally, dialect or Dialect())


def preferences_of(path: Path, tally: Tally, dialect: Dialect | None = None) -> Iterator[Preference]:
    """Preferences of a file or folder, in order, counted and not said. Raises as `read_conversations` does."""
    return _read(path, preference_of, tally, dialect or Dialect())


def _said(rows: list[T], tally: Tally) -> list[T]:
    for line in tally.lines():
        print(f"phi3kit: {line}", file=sys.stderr)
    return rows


def conversation_row(conversation: Conversation) -> Row:
    """The row `read_conversations` reads back."""
    return {
        "id": conversation.id,
        "messages": _rows(conversation.messages),
        "metadata": conversation.metadata,
        **({"images": list(conversation.images)} if conversation.images else {}),
    }


def preference_row(preference: Preference) -> Row:
    """The row `read_preferences` reads back."""
    return {
        "id": preference.id,
        "prompt": _rows(preference.prompt),
        "chosen": _rows(preference.chosen),
        "rejected": _rows(preference.rejected),
        "metadata": preference.metadata,
        **({"images": list(preference.images)} if preference.images else {}),
    }


def _rows(messages: tuple[Message, ...]) -> list[Row]:
    return [_turn(message) for message in messages]


def _turn(message: Message) -> Row:
    given: Row = {
        "weight": None if message.learned else 0,
        "tools": list(message.tools),
        "tool_calls": list(message.tool_calls),
        "reasoning_content": message.reasoning,
        "name": message.name,
    }
    return {
        "role": message.role,
        "content": message.content,
        **{k: v for k, v in given.items() if v not in (None, "", [])},
    }


def _read(path: Path, convert: Callable[[Any, str, Dialect], Found], tally: Tally, dialect: Dialect) -> Iterator[Any]:
    for place, row, file in rows_at(path):
        tally.rows += 1
        if isinstance(row, Broken):
            tally.refuse(place, row.reason)
            continue
        try:
            found = convert(row, place, dialect)
        except UnknownShape:
            tally.refuse(place, f"unknown shape {short(row)}; accepted: {SHAPES}")
        except BadRow as error:
            tally.refuse(place, str(error))
        else:
            tally.unused.update(found.unused)
            yield _with_images_of(found.item, path, file)
    if not tally.rows:
        raise UserError(f"{path} has no rows; one per line is expected: {SHAPES}")
    tally.check()


def _with_images_of(item: T, path: Path, file: Path) -> T:
    """The record; of a file deep in a folder, its images as the folder's own parent would name them."""
    if file == path or not item.images:
        return item
    at = file.parent.relative_to(path)
    return replace(item, images=tuple(str(path.name / at / image) for image in item.images))


def file_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of a file or folder. Raises `UserError` with file and line."""
    for place, row, _ in rows_at(path):
        if isinstance(row, Broken):
            raise UserError(f"{place} {row.reason}")
        if not isinstance(row, dict):
            raise UserError(f"{place}: unknown shape {short(row)}; accepted: {SHAPES}")
        yield place, row
