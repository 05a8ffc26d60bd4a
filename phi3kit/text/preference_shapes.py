"""Rows of the dialects that are in use, as preferences.

``prompt``, ``chosen`` and ``rejected``, each a text or turns; the answers may hold the whole conversation, and then
``prompt`` may be missing (TRL's implicit prompt). Alpaca's and ShareGPT's pairs; OpenAI's ``input``,
``preferred_output`` and ``non_preferred_output``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from phi3kit.records import Message, Preference
from phi3kit.text.chat_shapes import QUESTION, TURNS, Dialect, Found, Opened, empty, question_of, shown
from phi3kit.text.chat_turns import tools_of, with_system
from phi3kit.text.row_fields import BadRow, Fields, UnknownShape

Messages = tuple[Message, ...]
ANSWERS = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))


def preference_of(row: Any, place: str, dialect: Dialect) -> Found:
    """A row as a `Preference`. Raises `BadRow`."""
    opened = Opened(row, place, dialect)
    fields = opened.fields
    names = next((names for names in ANSWERS if all(name in fields for name in names)), None)
    if names is None:
        raise UnknownShape
    given = [fields.take(name) for name in names]
    texts = any(isinstance(answer, str) for answer in given)
    answers = [opened.turns.read(answer, name, speaker="assistant") for answer, name in zip(given, names, strict=True)]
    whole = all(any(message.role == "user" for message in answer) for answer in answers)
    asked = _asked(opened, whole)
    if not asked:
        if texts:
            raise BadRow(_no_prompt(given, names))
        asked = _common(*answers)
        if not asked:
            raise BadRow(f"{names[0]} and {names[1]} begin with no prompt that both have, and there is no prompt")
    asked, answers = _parted(asked, answers, names)
    if asked[-1].role == "assistant":
        raise BadRow("prompt ends with a turn of the assistant; end it with the user's, the answer is a turn")
    asked = with_system(asked, opened.system(), opened.tools)
    _check(answers, names)
    asked = shown(asked, opened.turns)
    return opened.found(Preference(asked, answers[0], answers[1], **opened.beside()))


def _asked(opened: Opened, whole: bool) -> Messages:
    """What is answered, as the row gives it beside the answers; nothing where it is only in them."""
    fields = opened.fields
    box = fields.all.get("input")
    if isinstance(box, Mapping):  # OpenAI's
        inner = Fields(fields.take("input"))
        opened.tools = opened.tools or tools_of(inner.take("tools"), "input.tools")
        turns = inner.take("messages")
        opened.fields.unused |= {f"input.{name}" for name in inner.unused}
        return opened.turns.read(turns, "input.messages")
    if isinstance(fields.all.get("prompt"), list):
        return opened.turns.read(fields.take("prompt"), "prompt")
    if any(fields.all.get(name) for name in (*QUESTION, "input")):
        return question_of(fields, opened.turns)
    name = next((name for name in TURNS if isinstance(fields.all.get(name), list)), None)
    return () if whole or name is None else opened.turns.read(fields.take(name), name)


def _no_prompt(given: list[Any], names: tuple[str, str]) -> str:
    if any(isinstance(answer, str) and "\n\nHuman:" in answer for answer in given):
        return f"{names[0]} and {names[1]} are transcripts of one text each; give turns, each with role and content"
    return f"{names[0]} and {names[1]} are texts and there is no prompt; give it, or turns"


def _same(one: Message, other: Message) -> bool:
    """Whether two turns say the same, white space at their ends aside."""
    return (
        one.role == other.role and one.content.strip() == other.content.strip() and one.tool_calls == other.tool_calls
    )


def _common(one: Messages, other: Messages) -> Messages:
    """What two conversations begin with, up to the last turn that is not an assistant's."""
    pairs = takewhile(lambda pair: _same(*pair), zip(one, other, strict=False))
    common = [turn for turn, _ in pairs]
    while common and common[-1].role == "assistant":
        common.pop()
    return tuple(common)


def _parted(asked: Messages, answers: list[Messages], names: tuple[str, ...]) -> tuple[Messages, list[Messages]]:
    """The prompt, and the answers without what they repeat of it."""
    parts = [_split(asked, answer, name) for answer, name in zip(answers, names, strict=True)]
    prompt = max((prompt for prompt, _ in parts), key=len)
    for found, _ in parts:
        shorter = prompt[len(prompt) - len(found) :]
        if not all(map(_same, found, shorter)) or (len(found) < len(prompt) and prompt[0].role != "system"):
            raise BadRow(f"{names[0]} and {names[1]} answer different prompts")
    return prompt, [answer for _, answer in parts]


def _split(asked: Messages, answer: Messages, name: str) -> tuple[Messages, Messages]:
    """The prompt as an answer's own conversation has it, and the answer alone."""
    first, asked = _system(asked)
    own, answer = _system(answer)
    if first and own and not _same(first[0], own[0]):
        raise BadRow(f"{name} has another system turn than the prompt")
    system = own or first
    if asked and len(answer) > len(asked) and all(map(_same, asked, answer)):
        return (*system, *answer[: len(asked)]), answer[len(asked) :]
    last = max((number for number, message in enumerate(answer) if message.role == "user"), default=-1)
    if last < 0:
        return (*system, *asked), answer
    question = next((message for message in reversed(asked) if message.role == "user"), None)
    if question is None or not _same(question, answer[last]) or len(asked) > last + 1:
        raise BadRow(f"{name} holds a conversation whose last question is not the prompt")
    return (*system, *answer[: last + 1]), answer[last + 1 :]


def _system(messages: Messages) -> tuple[Messages, Messages]:
    """The system turn in front, if there is one, and the others."""
    count = int(bool(messages) and messages[0].role == "system")
    return messages[:count], messages[count:]


def _check(answers: list[Messages], names: tuple[str, str]) -> None:
    for answer, name in zip(answers, names, strict=True):
        if not answer or answer[-1].role != "assistant" or answer[0].role == "system":
            raise BadRow(
                f"{name} does not end with an assistant turn"
                if not answer or answer[0].role != "system"
                else f"{name} has a system turn of its own"
            )
        if not any(message.role == "assistant" and message.learned for message in answer):
            raise BadRow(f"{name} has no assistant turn to be learned (all have weight 0)")
    if answers[0] == answers[1]:
        raise BadRow(f"{names[0]} and {names[1]} are the same")
    if empty(answers[0][-1]):
        raise BadRow(f"{names[0]} is an empty answer; write one")
