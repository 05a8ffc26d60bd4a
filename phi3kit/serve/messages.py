"""Messages of a chat request, as OpenAI writes them, and back as our turns.

Every field of a message is read or refused: what a template has no form for, `phi3kit.text.template` refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from phi3kit.errors import UserError, nearest
from phi3kit.families import Tokenizer
from phi3kit.records import Message, Role
from phi3kit.text.characters import whole_characters
from phi3kit.text.template import render, stop_ids

ROLES: dict[Any, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
}  # fmt: skip
TAKEN = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"}
PART = {"type", "text", "cache_control"}
NOTHING: tuple[Any, ...] = (None, [], "", {})  # what clients send back of an answer's empty fields


def read(messages: Any) -> tuple[Message, ...]:
    """The turns.

    Raises:
        UserError: which message, what it holds, what is accepted.
    """
    if not isinstance(messages, list) or not messages:
        raise UserError("`messages` must be a list of at least one message")
    turns: list[Message] = []
    called: dict[str, str] = {}  # id of a call -> its tool
    for number, message in enumerate(messages):
        turn = _turn(message, f"messages[{number}]", called)
        called |= {call["id"]: call["function"]["name"] for call in turn.tool_calls if "id" in call}
        turns.append(turn)
    return tuple(turns)


def prompt(turns: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Ids that ask for what comes next: the answer, or the rest of an assistant's last turn, which is left open."""
    last = turns[-1]
    if last.role != "assistant":
        return _asking(turns, tokenizer)
    if last.tool_calls:
        raise UserError("the last message calls tools and has ended; give what they answered")
    if not (last.content or last.reasoning):
        return _asking(turns[:-1], tokenizer)
    rendered = render(turns, tokenizer)
    end = max(place for place, learned in enumerate(rendered.supervised) if learned)  # what closes the turn, mostly
    return rendered.ids[: end if rendered.ids[end] in stop_ids(tokenizer) else end + 1]


def _asking(turns: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The whole conversation is read, so that its template may write earlier turns otherwise than when they came."""
    return render([replace(turn, learned=False) for turn in turns], tokenizer, generation=True).ids


def _turn(message: Any, where: str, called: Mapping[str, str]) -> Message:
    if not isinstance(message, dict):
        raise UserError(f"{where} must be an object with `role` and `content`")
    given = {name: value for name, value in message.items() if name in ("role", "content") or value not in NOTHING}
    for name in given.keys() - TAKEN:
        raise UserError(f"{where} has the field `{name:.60}`, which is not supported{nearest(name[:60], TAKEN)}")
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise UserError(f"{where} has the role {role!r:.60}; roles are {', '.join(ROLES)}")
    of_one = {"tool_calls": "assistant", "reasoning_content": "assistant", "tool_call_id": "tool"}
    for name in given.keys() & of_one.keys():
        if role != of_one[name]:
            raise UserError(f"{where} has `{name}`, which only messages of the role {of_one[name]} have")
    calls = _calls(given.get("tool_calls", []), where)
    return Message(
        ROLES[role],
        "" if given.get("content") is None and calls else _text(given.get("content"), where),
        tool_calls=calls,
        reasoning=_string(given.get("reasoning_content", ""), f"{where} `reasoning_content`"),
        name=_name(given, where, called),
    )


def _text(content: Any, where: str) -> str:
    """The text of a message: a string, or parts of one."""
    if isinstance(content, list):
        return "".join(_part(part, f"{where} `content`[{number}]") for number, part in enumerate(content))
    if not isinstance(content, str):
        raise UserError(f"{where} has no text: `content` must be a string, or a list of parts of type text")
    return whole_characters(content, f"{where} `content`")


def _part(part: Any, where: str) -> str:
    """The text of a part; where a client wants it cached changes nothing."""
    if not isinstance(part, dict) or part.get("type") != "text":
        raise UserError(f"{where} has no text: `content` must be a string, or a list of parts of type text")
    for name in [name for name, value in part.items() if name not in PART and value not in NOTHING]:
        raise UserError(f"{where} has the field `{name:.60}`, which is not supported{nearest(name[:60], PART)}")
    return _string(part.get("text"), f"{where} `text`")


def _calls(calls: Any, where: str) -> tuple[dict[str, Any], ...]:
    """Calls of tools, each with a function's name and arguments."""
    if not isinstance(calls, list):
        raise UserError(f"{where} `tool_calls` must be a list")
    for number, call in enumerate(calls):
        place = f"{where} `tool_calls`[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise UserError(f"{place} must be an object with a `function` of `name` and `arguments`")
        _string(function.get("name"), f"{place} `name`")
        _string(function.get("arguments"), f"{place} `arguments`")
        if "id" in call:
            _string(call["id"], f"{place} `id`")
    return tuple(calls)


def _name(given: Mapping[str, Any], where: str, called: Mapping[str, str]) -> str:
    """Who speaks: of a tool's message, which tool, by the call that it answers."""
    name = _string(given.get("name", ""), f"{where} `name`")
    if "tool_call_id" not in given:
        return name
    id = _string(given["tool_call_id"], f"{where} `tool_call_id`")
    if id not in called:
        raise UserError(f"{where} answers the call {id!r:.60}, which no message before it makes")
    return name or called[id]


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} is {value!r:.60}; give a text")
    return whole_characters(value, where)
