"""Turns of a chat, in the spellings that are in use, as `Message`s.

``role`` and ``content``, or ``from`` and ``value``; content as a text or as parts; an assistant's ``tool_calls``,
``function_call``, ``reasoning_content``; ``weight`` (OpenAI) or ``train`` (axolotl), which take a turn out of the
loss.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from phi3kit.records import Message, Role
from phi3kit.text.row_fields import BadRow, Fields, UnknownShape, plain, short, unicode_text, without_nulls

ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool",
    "ipython": "tool",
}  # fmt: skip
CALLS = ("function_call", "tool_call")  # roles of turns whose content is a call, as LLaMA-Factory has them
LEARNED = ("weight", "train", "training", "trainable", "loss", "loss_mask", "loss_weight")
BEYOND = (  # they change what is learned
    "train_detail", "training_detail", "loss_scale", "refusal", "audio", "mask", "masked", "ignore",
)  # fmt: skip
KNOWN = ("id", "tool_call_id", "index", "type")  # they change nothing
TEXTS = ("text", "input_text", "output_text")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # "https:", "data:", but no "C:"


class Turns:
    """Reads the turns of one row.

    Args:
        roles: roles of one's own: theirs -> ours.
        names: fields of one's own: ours -> theirs.
        images: of the row; a part of content that is an image without a file means the next of them.
    """

    def __init__(
        self,
        roles: Mapping[str, str] | None = None,
        names: Mapping[str, str | None] | None = None,
        images: Sequence[str] = (),
    ) -> None:
        self.roles = {**{role.lower(): ours for role, ours in (roles or {}).items()}}
        self.names = names
        self.unused: Counter[str] = Counter()
        self._waiting = list(images)
        self._shown: list[str] = []

    @property
    def images(self) -> tuple[str, ...]:
        """The row's images, those that parts of content name where they are named."""
        return (*self._shown, *self._waiting)

    @property
    def in_parts(self) -> bool:
        """Whether parts of content said where images stand."""
        return bool(self._shown)

    def read(self, value: Any, key: str, speaker: str | None = None) -> tuple[Message, ...]:
        """A list of turns, or a single one, or a text of `speaker`. Raises `BadRow`."""
        if isinstance(value, str) and speaker:
            return (Message(self._role(speaker, key), unicode_text(value, key)),)
        if isinstance(value, Mapping):
            value = [value]
        if not isinstance(value, Sequence) or not value or not all(isinstance(turn, Mapping) for turn in value):
            raise UnknownShape
        return tuple(self._turn(turn, f"{key}[{number}]") for number, turn in enumerate(value))

    def _turn(self, turn: Mapping[str, Any], where: str) -> Message:
        fields = Fields(turn, self.names)
        given = fields.take("role", "from")
        called = isinstance(given, str) and given.lower() in CALLS and given.lower() not in self.roles
        role: Role = "assistant" if called else self._role(given, where)
        calls = self._calls(fields, role, where)
        content = self._content(fields.take("content", "value"), role, where, optional=bool(calls))
        if called:
            calls, content = _list_of_calls(content, where), ""
        message = Message(
            role,
            content,
            learned=self._learned(fields, role, where),
            tools=tools_of(fields.take("tools"), f"{where}.tools", as_given=True),
            tool_calls=tuple(calls),
            reasoning=fields.text("reasoning_content", "reasoning", "thinking"),
            name=fields.text("name"),
        )
        if message.tools and role != "system":
            raise BadRow(f"{where} declares tools in a turn of the {role}; put them beside `messages`")
        for name in fields.unused - {*KNOWN}:
            if name in BEYOND:
                raise BadRow(f"{where} has {name!r}, which cannot be obeyed; take it out")
            self.unused[f"{name} of turns"] += 1
        return message

    def _role(self, given: Any, where: str) -> Role:
        role = given.lower() if isinstance(given, str) else given
        found = self.roles.get(role) or ROLES.get(role) if isinstance(role, str) else None
        if found not in ("system", "user", "assistant", "tool"):
            raise BadRow(
                f"{where} has role {short(given)}; use one of system, user, assistant, tool, or say which of them it "
                "is with `role_map`"
            )
        return found  # type: ignore[return-value]

    def _calls(self, fields: Fields, role: str, where: str) -> list[dict[str, Any]]:
        calls = fields.take("tool_calls") or []
        if isinstance(calls, str):
            calls = _json(calls, f"{where}.tool_calls")
        calls = calls if isinstance(calls, list) else [calls]
        if legacy := fields.take("function_call"):
            calls = [*calls, legacy]
        if calls and role != "assistant":
            raise BadRow(f"{where} makes calls in a turn of the {role}; only an assistant does")
        return [_call(call, where) for call in calls]

    def _learned(self, fields: Fields, role: str, where: str) -> bool:
        name = next((name for name in LEARNED if name in fields), None)
        if name is None:
            return True
        value = fields.take(name)
        if value not in (0, 1):
            raise BadRow(f"{where} has {name} {short(value)}; 0 and 1 are understood")
        if role != "assistant" and value and name != "weight":
            self.unused[f"{name} of a {role}'s turns, which carry no loss"] += 1
        return bool(value)

    def _content(self, value: Any, role: str, where: str, *, optional: bool) -> str:
        if value is None and optional:
            return ""
        if isinstance(value, list) and value:
            value = "".join(self._part(part, f"{where}.content[{i}]") for i, part in enumerate(value))
        elif role == "tool" and isinstance(value, dict):
            value = json.dumps(plain(value), ensure_ascii=False)
        if not isinstance(value, str):
            raise BadRow(f"{where} has content {short(value)}; a text is expected")
        return unicode_text(value, where)

    def _part(self, part: Any, where: str) -> str:
        if isinstance(part, str):
            return part
        fields = Fields(part) if isinstance(part, Mapping) else Fields({})
        kind = fields.take("type") or ("text" if "text" in fields else None)
        if kind in TEXTS and "text" in fields:
            return fields.text("text")
        if kind in ("image", "image_url", "input_image"):
            image = fields.take("image", "image_url", "path", "url")
            image = Fields(image).take("url", "path") if isinstance(image, Mapping) else image
            if image is None and self._waiting:
                image = self._waiting.pop(0)
            if not isinstance(image, str) or ADDRESS.match(image):
                raise BadRow(f"{where} is an image that is no file: {short(image)}; save it as one and name that")
            self._shown.append(image)
            return f"<|image_{len(self._shown)}|>\n"
        raise BadRow(f"{where} is {short(part)}; a part of type text, or an image's file, is expected")


def tools_of(value: Any, where: str, *, as_given: bool = False) -> tuple[dict[str, Any], ...]:
    """Declared tools, as OpenAI's ``tools`` describe them: given so, or the functions alone, or either as JSON text.

    On a system turn of their own (Phi-4-mini's form) they stay `as_given`: its template writes them so.

    Raises:
        BadRow: they are something else.
    """
    if isinstance(value, str):
        value = _json(value, where) if value.strip() else None
    value = [value] if value and isinstance(value, Mapping) else value or []
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise BadRow(f"{where} is {short(value)}; a list of tools is expected, as OpenAI's `tools` describe them")
    tools = [_unicode_inside(without_nulls(tool), where) for tool in value]
    return tuple(tool if as_given else _tool(tool) for tool in tools)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": tool} if "function" not in tool and "name" in tool else tool


def _list_of_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """A call, or several, as JSON or read already."""
    value = _json(value, where) if isinstance(value, str) else value
    return [_call(call, where) for call in (value if isinstance(value, list) else [value])]


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow(f"{where} makes the call {short(call)}; one with a function's name and arguments is expected")
    found: dict[str, Any] = without_nulls(call)
    return _unicode_inside(found if "function" in call else {"type": "function", "function": found}, where)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{where} is not JSON ({error}): {short(text)}") from error


def _unicode_inside(value: dict[str, Any], where: str) -> dict[str, Any]:
    unicode_text(json.dumps(value, ensure_ascii=False, default=str), where)
    found: dict[str, Any] = plain(value)
    return found


def with_system(messages: tuple[Message, ...], system: str, tools: tuple[dict[str, Any], ...]) -> tuple[Message, ...]:
    """The turns with a system text in front and with tools on the first system turn."""
    if not system and not tools:
        return messages
    if not messages or messages[0].role != "system":
        messages = (Message("system", system), *messages)
    elif system and system != messages[0].content:
        raise BadRow("there are two system prompts: a field of the row, and the first turn; leave one out")
    if tools and messages[0].tools and tools != messages[0].tools:
        raise BadRow("tools are declared twice, beside the turns and on the system turn; leave one out")
    return (replace(messages[0], tools=tools or messages[0].tools), *messages[1:])
