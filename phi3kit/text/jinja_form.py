"""Conversations as a public model's own chat template writes them: to text, and from text to segments.

Two things are special. What people wrote stays text: where it spells a special token, the name is broken by a
character that nobody uses before the template sees it, and mended after the tokens have been found. And an answer is
what follows its request: the loss falls on all that the template writes between asking for an answer and the token
that ends it, calls of tools included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, final

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import ChatForm, Message
from phi3kit.text.jinja_sandbox import compiled
from phi3kit.text.template import WHITE_SPACE, Segment

USER, ANSWER = Message("user", "Where is the harbour?"), Message("assistant", "Behind the wall.")
TALK = (USER, ANSWER, Message("user", "And the rice?"), Message("assistant", "It boils."))
CALL = {"type": "function", "function": {"name": "look", "arguments": {"where": "there"}}}


@final
class Writer:
    """What a template writes, without the end of text that some close a finished conversation with.

    Args:
        form: the template.
        tokens: ids of the tokens that it can write.

    Raises:
        UserError: no template that conversations can grow with.
    """

    def __init__(self, form: ChatForm, tokens: Mapping[str, int]) -> None:
        self.form = form
        self.stops = _any_of(name for name, id in tokens.items() if id in form.stops)
        self.closing = self._closing(tokens)
        answer = self.text(TALK[:2])[len(self.text(TALK[:1])) :]
        self.closes = self.stops.search(answer) is not None  # whether every answer ends with a stop

    def text(self, messages: Sequence[Message], *, generation: bool = False, last: bool = False) -> str:
        """The conversation's text.

        Args:
            messages: the turns.
            generation: ask for an answer.
            last: nothing follows: where only the end of text tells that an answer ends, it stays.
        """
        text = self.raw(messages, generation)
        stays = generation or (last and not self.closes and messages[-1].role == "assistant")
        return text if stays else text.removesuffix(self.closing)

    def check_append_only(self) -> None:
        """Raise `UserError` unless a conversation's text is a prefix of its continuation's, the asking for an answer
        that of the answered one."""
        before = ""
        for count in range(1, len(TALK) + 1):
            text = self.text(TALK[:count])
            if not text.startswith(before):
                raise _changes(before, text)
            before = text if TALK[count - 1].role == "assistant" else self.text(TALK[:count], generation=True)
            if not before.startswith(text):
                raise _changes(text, before)
        self.check_said(TALK, before)

    def check_said(self, messages: Sequence[Message], text: str) -> None:
        """Raise `UserError` where the template leaves out something that the conversation says.

        Args:
            messages: the conversation.
            text: what was written of it, with or without the request for an answer.
        """
        place = 0
        for number, message in enumerate(messages):
            content = message.content.strip()
            found = text.find(content, place)
            doubtful = found < 0 or (content and message.role not in ("user", "assistant"))
            around = (f"{message.content} x", f"x {message.content}")
            if doubtful and any(self._same(messages, number, content=other) for other in around):
                raise UserError(f"the chat template leaves out what turn {number + 1}, of role {message.role}, says")
            place = max(found + len(content), place)
            for what, nothing in (("tools", ()), ("tool_calls", ()), ("reasoning", ""), ("name", "")):
                if getattr(message, what) and self._same(messages, number, **{what: nothing}):
                    raise UserError(f"the chat template has no form for {what} (turn {number + 1}, {message.role})")

    def _same(self, messages: Sequence[Message], number: int, **changed: Any) -> bool:
        """Whether the text is the same with another message in that place."""
        others = [*messages[:number], replace(messages[number], **changed), *messages[number + 1 :]]
        return self.raw(messages) == self.raw(others)

    def raw(self, messages: Sequence[Message], generation: bool = False) -> str:
        """All that the template writes."""
        tools = [tool for message in messages for tool in message.tools]
        source = self.form.tool_template if tools and self.form.tool_template else self.form.template
        beside = bool(tools) and not self._takes_tools  # Phi-4-mini's way: text in the system's turn
        empty = lambda message: message.role == "system" and not message.content and not (beside and message.tools)  # noqa: E731
        said = [self._told(message, with_tools=beside) for message in messages if not empty(message)]
        return compiled(source)(
            **self.form.tokens, messages=said, tools=tools or None, documents=None, add_generation_prompt=generation
        )

    def _told(self, message: Message, with_tools: bool = False) -> dict[str, Any]:
        """A message as transformers hands it to a template."""
        told: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            told["tool_calls"] = [_call(call, self._takes_objects) for call in message.tool_calls]
        if message.reasoning:
            told |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
        if message.name:
            told["name"] = message.name
        if with_tools and message.tools:
            told["tools"] = json.dumps(list(message.tools), ensure_ascii=False)
        return told

    @cached_property
    def _takes_tools(self) -> bool:
        """Whether the template writes the `tools` that it is given beside the messages."""
        write = compiled(self.form.tool_template or self.form.template)
        said = [{"role": "user", "content": USER.content}]
        told = [
            write(**self.form.tokens, messages=said, tools=tools, documents=None, add_generation_prompt=False)
            for tools in (None, [{"type": "function", "function": CALL["function"] | {"parameters": {}}}])  # type: ignore[operator]
        ]
        return told[0] != told[1]

    @cached_property
    def _takes_objects(self) -> bool:
        """Whether arguments of calls must be objects, because the template makes JSON of them itself."""
        said = [{"role": "user", "content": USER.content}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
        source = self.form.tool_template or self.form.template
        try:
            text = compiled(source)(
                **self.form.tokens, messages=said, tools=None, documents=None, add_generation_prompt=False
            )
        except UserError:
            return False
        return "'where'" not in text

    def _closing(self, names: Iterable[str]) -> str:
        """What ends a finished conversation and is not there when it goes on: mostly the end of text."""
        short, long = self.raw(TALK[:2]), self.raw(TALK[:3])
        for name in names:
            if not long.startswith(short) and short.rstrip().endswith(name):
                kept = short.rstrip().removesuffix(name)
                if long.startswith(kept):
                    return short[len(kept) :]
        return ""


@lru_cache(maxsize=16)
def _writer(form: ChatForm, tokens: tuple[tuple[str, int], ...]) -> Writer:
    return Writer(form, dict(tokens))


def writer(tokenizer: Tokenizer) -> Writer:
    """What writes conversations of a tokenizer's model, where it has a template of its own."""
    assert tokenizer.chat_form is not None
    return _writer(tokenizer.chat_form, tuple(tokenizer.template_tokens.items()))


def written(messages: Sequence[Message], tokenizer: Tokenizer, *, generation: bool = False) -> Iterator[Segment]:
    """A conversation piece by piece, as `phi3kit.text.template.segments` gives it.

    Raises:
        UserError: the template refuses the conversation, leaves out something of it, or changes it as it goes on.
    """
    by = writer(tokenizer)
    mark = _unused(messages)
    ends = {name for name, id in tokenizer.words.items() if id in by.form.stops}
    broken = [_map_text(m, lambda text: _break(text, {*tokenizer.special_tokens, *ends}, mark)) for m in messages]
    text = by.text(broken, generation=generation, last=True)
    if broken != list(messages) and by.raw(broken).replace(mark, "") != by.raw(messages):
        raise UserError("the chat template reads special tokens in what people wrote; take their names out")
    by.check_said(broken, text)
    learned = [_answer(by, broken, number, text) for number in _answers(messages)]
    cuts = [found.start() + 1 for found in _any_of(f"{end[0]}{mark}{end[1:]}" for end in ends).finditer(text)]
    yield from _split(text, tokenizer, learned, cuts, mark)


def _answers(messages: Sequence[Message]) -> Iterator[int]:
    return (n for n, message in enumerate(messages) if message.role == "assistant" and message.learned)


def _answer(by: Writer, messages: Sequence[Message], number: int, text: str) -> tuple[int, int]:
    """Where in the text an answer begins and ends, with the token that ends it."""
    upto = by.text(messages[: number + 1], last=number + 1 == len(messages))
    before = by.text(messages[:number], generation=True) if number else ""
    if not upto.startswith(before) or not text.startswith(upto):
        raise _changes(before, upto) if not upto.startswith(before) else _changes(upto, text)
    start = len(before)
    if not number or before == by.text(messages[:number]):  # nothing asks for an answer: it begins with what it says
        start = max(start, text.find(messages[number].content.strip(), start))
    ends = by.stops.search(text, start, len(upto))
    return start, ends.end() if ends else len(upto)


def _split(
    text: str, tokenizer: Tokenizer, learned: Sequence[tuple[int, int]], cuts: Sequence[int], mark: str
) -> Iterator[Segment]:
    """Tokens, and the text between them without what they swallow.

    Args:
        text: the conversation's, marks in it.
        tokenizer: whose tokens are looked for.
        learned: where answers begin and end.
        cuts: where text is divided, so that a word in it that would end an answer is none.
        mark: what is left out.
    """
    start, swallows = 0, False
    tokens = [(found.start(), found.end(), found[0]) for found in _any_of(tokenizer.template_tokens).finditer(text)]
    for end, following, name in sorted([*tokens, *((cut, cut, "") for cut in cuts), (len(text), len(text), "")]):
        place = end
        if swallows:
            start += len(text[start:end]) - len(text[start:end].lstrip(WHITE_SPACE))
        if name in tokenizer.swallows_space_before:
            end = start + len(text[start:end].rstrip(WHITE_SPACE))
        if start < end:
            own = lambda at: len(text[start : min(max(at, start), end)].replace(mark, ""))  # noqa: B023, E731
            spans = [(own(a), own(b)) for a, b in learned]
            spans = [(a, b) for a, b in spans if a < b]
            yield Segment(text[start:end].replace(mark, ""), special=False, learned=tuple(spans))
        if name:
            inside = any(a <= place < b for a, b in learned)
            yield Segment(name, special=True, learned=((0, len(name)),) if inside else ())
        start, swallows = following, name in tokenizer.swallows_space_after


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    """The longest of some names, wherever one begins; as `tokenizers` finds added tokens."""
    longest = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)) or r"(?!)")


def _break(text: str, names: Iterable[str], mark: str) -> str:
    """The text with a mark in every name, after its first character."""
    breakable = _any_of(name for name in names if len(name) > 1)
    while breakable.search(text):
        text = breakable.sub(lambda found: found[0][0] + mark + found[0][1:], text)
    return text


def _unused(messages: Sequence[Message]) -> str:
    """A character of a private plane that the conversation does not have."""
    said = set(str(messages))
    return next(c for c in map(chr, range(0xF0000, 0xFFFFE)) if c not in said)


def _map_text(value: Any, change: Any) -> Any:
    """A message, or what is in it, with every text changed; keys too."""
    if isinstance(value, Message):
        texts = {key: _map_text(getattr(value, key), change) for key in ("content", "reasoning", "name")}
        return replace(
            value, **texts, tools=_map_text(value.tools, change), tool_calls=_map_text(value.tool_calls, change)
        )
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_map_text(key, change): _map_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_text(item, change) for item in value)
    return value


def _call(call: dict[str, Any], objects: bool) -> dict[str, Any]:
    """A call whose arguments are an object, or JSON as OpenAI writes it."""
    function = dict(call.get("function", call))
    arguments = function.get("arguments", {})
    if objects and isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise UserError(f"the arguments of the call {function.get('name')!r} are not JSON: {error}") from error
    elif not objects and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return call | {"function": function | {"arguments": arguments}}


def _changes(before: str, after: str) -> UserError:
    """What to say of a template that is not append-only."""
    same = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    return UserError(
        "the chat template is not append-only: a conversation's text is no prefix of its continuation's, where "
        f"{before[same : same + 40]!r} becomes {after[same : same + 40]!r}; use a template that only appends"
    )
