"""Rows of the dialects that are in use, as conversations.

Turns under ``messages`` or ``conversations`` (OpenAI, ShareGPT), a question and an answer (Alpaca with its system and
history, TRL's ``prompt`` and ``completion``, ``prompt`` and ``response``), or a bare list of turns. What is in none of
the fields that a shape has is named as not used; what would change what is learned, and cannot be obeyed, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from phi3kit.records import Conversation, Message
from phi3kit.text.chat_turns import ADDRESS, Turns, tools_of, with_system
from phi3kit.text.row_fields import BadRow, Fields, UnknownShape, absent, plain, short, unicode_text

TURNS = ("messages", "conversations", "conversation")
QUESTION = ("instruction", "prompt", "question", "query")
BESIDE = ("input", "context")  # what an instruction is about
ANSWER = ("output", "completion", "response", "answer")
UNPAIRED = ("label", "kto_tag")
MESSAGES = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
OTHERS = "ShareGPT's conversations, Alpaca's instruction and output, prompt and completion"
PREFERENCE = '{"prompt": P, "chosen": A, "rejected": A}, each a text or a list of {"role", "content"}'
SHAPES = f"{MESSAGES}, {OTHERS}, for conversations; {PREFERENCE}, for preferences"


@dataclass(frozen=True)
class Dialect:
    """What a file calls things that have other names here.

    Args:
        role_map: roles: theirs -> system, user, assistant or tool.
        fields: fields of rows and turns: the name known here -> theirs; to null: a field of that name is not meant.
    """

    role_map: Mapping[str, str] | None = None
    fields: Mapping[str, str | None] | None = None


@dataclass(frozen=True)
class Found:
    """What a row gave, and the names of its fields that were not used."""

    item: Any
    unused: tuple[str, ...] = ()


class Opened:
    """A row with what all shapes share: its system text, tools, images, id and metadata.

    Args:
        row: as read.
        place: to be its id where it has none.
        dialect: of the file.
    """

    def __init__(self, row: Any, place: str, dialect: Dialect) -> None:
        if isinstance(row, list) and row:
            row = {"messages": row}
        if not isinstance(row, Mapping):
            raise UnknownShape
        self.fields = Fields(row, dialect.fields)
        _refuse_what_cannot_be_obeyed(self.fields)
        self.place = place
        self.tools = tools_of(self.fields.take("tools", "functions"), "tools")
        self.turns = Turns(dialect.role_map, dialect.fields, _images(self.fields))
        given = self.fields.take("id")
        self.id = place if given in (None, "") else plain(given) if isinstance(given, str) else str(given)
        self.metadata = _metadata(self.fields)

    def system(self) -> str:
        """The row's own system text."""
        return self.fields.text("system", "system_prompt")

    def beside(self) -> dict[str, Any]:
        """What a record has beside its turns."""
        return {"id": self.id, "metadata": self.metadata, "images": self.turns.images, "place": self.place}

    def found(self, item: Any) -> Found:
        """The record, with what was not used."""
        return Found(item, (*sorted(self.fields.unused), *self.turns.unused))


def conversation_of(row: Any, place: str, dialect: Dialect) -> Found:
    """A row as a `Conversation`. Raises `BadRow`."""
    opened = Opened(row, place, dialect)
    fields = opened.fields
    messages: tuple[Message, ...]
    if any(isinstance(fields.all.get(name), list) for name in TURNS):
        key = next(name for name in TURNS if isinstance(fields.all.get(name), list))
        messages = opened.turns.read(fields.take(key), key)
    elif isinstance(fields.all.get("prompt"), list):
        key = next((name for name in ANSWER if name in fields), "")
        if not key:
            raise UnknownShape
        asked = opened.turns.read(fields.take("prompt"), "prompt")
        if asked[-1].role == "assistant":
            raise BadRow("prompt ends with a turn of the assistant; end it with the user's, the answer is a turn")
        asked = tuple(replace(message, learned=False) for message in asked)
        messages = (*asked, *opened.turns.read(fields.take(key), key, speaker="assistant"))
    else:
        messages = (*question_of(fields, opened.turns), *_answer_of(fields, opened.turns))
    messages = with_system(messages, opened.system(), opened.tools)
    _check(messages)
    conversation = Conversation(shown(messages, opened.turns), **opened.beside())
    return opened.found(conversation)


def _check(messages: tuple[Message, ...]) -> None:
    answers = [(number, message) for number, message in enumerate(messages) if message.role == "assistant"]
    if not answers:
        raise BadRow("messages has no assistant turn; there is nothing to learn from it")
    if not any(message.learned for _, message in answers):
        raise BadRow("no assistant turn is to be learned (all have weight 0); there is nothing to learn from it")
    for number, message in answers:
        if message.learned and empty(message):
            raise BadRow(f"turn {number} is an empty answer; write one, or give it weight 0")


def empty(message: Message) -> bool:
    """Whether a turn says nothing."""
    return not message.content.strip() and not message.tool_calls


def question_of(fields: Fields, turns: Turns) -> tuple[Message, ...]:
    """An Alpaca-like row's history and question. Raises `BadRow`."""
    asked = [text for text in (fields.text(*QUESTION), fields.text(*BESIDE)) if text.strip()]
    if not asked:
        raise UnknownShape
    history = fields.take("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in history
    ):
        raise BadRow(f"history is {short(history)}; a list of pairs of a question and an answer is expected")
    before = ({"role": role, "content": text} for pair in history for role, text in zip(SPEAKERS, pair, strict=True))
    return turns.read([*before, {"role": "user", "content": "\n".join(asked)}], "history and question")


SPEAKERS = ("user", "assistant")


def _answer_of(fields: Fields, turns: Turns) -> tuple[Message, ...]:
    key = next((name for name in ANSWER if name in fields), None)
    if key is None:
        raise UnknownShape
    return turns.read(fields.take(key), key, speaker="assistant")


def shown(messages: tuple[Message, ...], turns: Turns) -> tuple[Message, ...]:
    """The turns with ``<|image_k|>`` where images stand: at ``<image>``, or, without any mark, before the question.

    A mark that parts of content gave, or that stands there already, stays.
    """
    count = len(turns.images)
    if not count or turns.in_parts or any(OWN_MARK.search(message.content) for message in messages):
        return messages
    numbers = iter(range(1, count + 1))
    if sum(len(MARK.findall(message.content)) for message in messages) == count:
        return tuple(
            replace(m, content=MARK.sub(lambda _: f"<|image_{next(numbers)}|>\n", m.content)) for m in messages
        )
    first = next((number for number, message in enumerate(messages) if message.role == "user"), None)
    if first is None or any(MARK.search(message.content) for message in messages):
        return messages
    tags = "".join(f"<|image_{number}|>\n" for number in numbers)
    asked = replace(messages[first], content=tags + messages[first].content)
    return (*messages[:first], asked, *messages[first + 1 :])


MARK = re.compile(r"<image>\n?")
OWN_MARK = re.compile(r"<\|image_\d+\|>")


def _images(fields: Fields) -> list[str]:
    images = fields.take("images", "image")
    images = [images] if isinstance(images, str | Mapping) and "images" not in fields else images or []
    if not isinstance(images, list):
        raise BadRow(f"images is {short(images)}; a list of files is expected")
    return list(_files(images))


def _files(images: list[Any]) -> Iterator[str]:
    for image in images:
        name = image.get("path") if isinstance(image, Mapping) and not image.get("bytes") else image
        if not isinstance(name, str) or ADDRESS.match(name):
            raise BadRow(f"images has {short(plain(image))}; a list of files is expected")
        yield unicode_text(name, "images")


def _metadata(fields: Fields) -> dict[str, Any]:
    """The row's metadata, as JSON can say it, with its split: its own, or the row's."""
    given = fields.take("metadata")
    found = plain(given if isinstance(given, Mapping) else {} if absent(given) else {"metadata": given})
    found = {key: value for key, value in found.items() if key != "split" or value not in (None, "")}
    if "split" not in found and isinstance(fields.all.get("split"), str) and fields.all["split"]:
        found["split"] = plain(fields.take("split"))
    return dict(found)


def _refuse_what_cannot_be_obeyed(fields: Fields) -> None:
    for name in UNPAIRED:
        if isinstance(fields.all.get(name), bool | int):
            raise BadRow(
                f"{name} says whether one answer is good (KTO's unpaired answers), which no phase here learns from; "
                f"give pairs, or set `fields: {{{name}: null}}` where it means something else"
            )
    for name in ("videos", "audios", "audio", "segments", "completions", "weights", "loss_mask", "loss_weights"):
        if fields.all.get(name) not in (None, "", []):
            raise BadRow(f"{name} cannot be learned from here; take the row out, or the field")
    if "weight" in fields and fields.take("weight") != 1:
        raise BadRow(
            f"weight is {short(fields.take('weight'))} for the whole row; turns have weights (0 or 1), rows have none"
        )
