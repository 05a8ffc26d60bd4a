"""Files of conversations and preferences, as people have them and as `prepare` writes them.

JSONL (also .gz) or Parquet, one row each; `SHAPES` lists what a row may look like.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from phi3kit.errors import UserError
from phi3kit.records import Conversation, Message, Preference

ROLES = ("system", "user", "assistant")
MESSAGES = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
PREFERENCE = '{"prompt": P, "chosen": A, "rejected": A}, each a text or a list of {"role", "content"}'
SHAPES = f"{MESSAGES} for conversations; {PREFERENCE} for preferences (optional everywhere: id, metadata, images)"

Row = dict[str, Any]
T = TypeVar("T")


def read_conversations(path: Path) -> list[Conversation]:
    """Conversations of a file, in order. Raises `UserError` with file and line."""
    return _read(path, _conversation)


def read_preferences(path: Path) -> list[Preference]:
    """Preferences of a file, in order; what `chosen` and `rejected` repeat of the prompt is taken off.

    Raises `UserError` with file and line.
    """
    return _read(path, _preference)


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


def _rows(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


class _BadRow(Exception):
    """What is wrong with a row, to be told with its place."""


class _UnknownShape(Exception):
    """The row is of no accepted shape at all."""


def _read(path: Path, convert: Callable[[Row, str], T]) -> list[T]:
    found = []
    for place, row in file_rows(path):
        try:
            found.append(convert(row, place))
        except _BadRow as error:
            raise UserError(f"{place}: {error}") from error
        except _UnknownShape as error:
            raise UserError(f"{place}: unknown shape {_short(row)}; accepted: {SHAPES}") from error
    if not found:
        raise UserError(f"{path} has no rows; one per line is expected: {SHAPES}")
    return found


def file_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(file:line, row) of a JSONL (also .gz) or Parquet file; lines count from 1, empty ones are skipped.

    Raises `UserError` with file and line.
    """
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        content = (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes())
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{place} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{place}: unknown shape {_short(row)}; accepted: {SHAPES}")
        yield place, row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not Parquet: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _conversation(row: Row, place: str) -> Conversation:
    if "messages" not in row:
        raise _UnknownShape
    messages = _messages(row["messages"], "messages")
    if all(message.role != "assistant" for message in messages):
        raise _BadRow("messages has no assistant turn; there is nothing to learn from it")
    return Conversation(messages, str(row.get("id") or place), row.get("metadata") or {}, _images(row))


def _preference(row: Row, place: str) -> Preference:
    if not row.keys() >= {"prompt", "chosen", "rejected"}:
        raise _UnknownShape
    prompt = _messages(row["prompt"], "prompt", speaker="user")
    chosen, rejected = (
        _after(prompt, _messages(row[key], key, speaker="assistant"), key) for key in ("chosen", "rejected")
    )
    if chosen == rejected:
        raise _BadRow("chosen and rejected are the same")
    return Preference(prompt, chosen, rejected, str(row.get("id") or place), row.get("metadata") or {}, _images(row))


def _after(prompt: tuple[Message, ...], answer: tuple[Message, ...], key: str) -> tuple[Message, ...]:
    """The answer without the prompt, where it repeats it."""
    if answer[: len(prompt)] == prompt:
        answer = answer[len(prompt) :]
    if not answer or answer[-1].role != "assistant":
        raise _BadRow(f"{key} does not end with an assistant turn")
    return answer


def _messages(value: Any, key: str, speaker: str | None = None) -> tuple[Message, ...]:
    """A list of messages, or a text of `speaker`."""
    if isinstance(value, str) and speaker:
        value = [{"role": speaker, "content": value}]
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        raise _UnknownShape
    messages = []
    for number, message in enumerate(value):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise _BadRow(f"{key}[{number}] has role {role!r}; use one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise _BadRow(f"{key}[{number}] has content {_short(content)}; a text is expected")
        messages.append(Message(role, content))
    return tuple(messages)


def _images(row: Row) -> tuple[str, ...]:
    images = row.get("images") or []
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise _BadRow(f"images is {_short(images)}; a list of files is expected")
    return tuple(images)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 160 else text[:157] + "..."
