"""The chat template of the Phi-3 family, in the only place that knows it.

Every message is ``<|role|>⏎content<|end|>⏎``; an answer is asked for with ``<|assistant|>⏎`` (⏎ is a newline;
Phi-3 Technical Report, section 2; Phi-3-mini's and Phi-3.5-mini's `tokenizer_config.json`). A system message
without content is left out, as in Phi-3.5-mini. Content is verbatim and stays text: a user who writes
``<|end|>`` writes seven characters.

A special token may swallow the white space after it (Hugging Face's ``rstrip``): in Phi-3-mini the template's
newlines are inside the role tokens' match and have no ids. What follows a special token, up to the next one, is
encoded as one piece, as Hugging Face does.

Hugging Face's template also ends a finished conversation with ``<|endoftext|>``. We do not: no runtime reads it
(``<|end|>`` stops the answer), and without it a conversation is a prefix of its continuation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from phi3kit.errors import UserError, nearest
from phi3kit.families import Tokenizer
from phi3kit.records import Message

END = "<|end|>"
END_OF_TEXT = "<|endoftext|>"
ASSISTANT = "<|assistant|>"
TOOL, TOOL_END = "<|tool|>", "<|/tool|>"

# Unicode's White_Space, which Rust's \s matches and `rstrip` swallows; str.isspace() counts four more.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class Segment(NamedTuple):
    """A special token, or the text between two of them."""

    text: str
    special: bool
    learned: tuple[tuple[int, int], ...] = ()  # where in the text what an assistant must say begins and ends

    @property
    def supervised(self) -> bool:
        """Whether there is something to learn in it."""
        return bool(self.learned)


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids; `supervised` says which of them an assistant must learn to say."""

    ids: list[int]
    supervised: list[bool]


def render(messages: Sequence[Message], tokenizer: Tokenizer, *, generation: bool = False) -> Rendered:
    """Ids of a conversation.

    Args:
        messages: the turns in order.
        tokenizer: must have the template's special tokens.
        generation: end with the opening of an assistant turn.
    """
    ids: list[int] = []
    supervised: list[bool] = []
    for segment in segments(messages, tokenizer, generation=generation):
        new, is_supervised = encode_segment(segment, tokenizer, begins=not ids)
        ids += new
        supervised += is_supervised
    return Rendered(ids, supervised)


def render_turn(content: str, tokenizer: Tokenizer, before: Sequence[Message] = ()) -> list[int]:
    """Ids that follow an assistant's answer when the user goes on with `content`.

    They begin with the ``<|end|>`` that closes the answer (a generator stops there and has not read it yet) and
    end with the opening of the next answer.

    Args:
        content: what the user says.
        tokenizer: must have the template's special tokens.
        before: the turns up to that answer; without them, one question. Only templates that number turns, or say the
            system's again, write another turn for other ones.

    Raises:
        UserError: the template changes what was said before.
    """
    asked = [replace(turn, learned=False) for turn in before or (Message("user", "Why?"),)]
    talk = [*asked, Message("assistant", "So."), Message("user", content)]
    rendered = render(talk, tokenizer, generation=True)
    last = max(place for place, learns in enumerate(rendered.supervised) if learns)
    return rendered.ids[last if rendered.ids[last] in stop_ids(tokenizer) else last + 1 :]


def stop_tokens(tokenizer: Tokenizer) -> list[str]:
    """What ends an answer, the token that closes a turn first; the three of Phi-3's `generation_config.json`."""
    if tokenizer.chat_form is None:
        return [END, END_OF_TEXT, ASSISTANT]
    return [tokenizer.decode([id]) for id in tokenizer.chat_form.stops]


def stop_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of what ends an answer."""
    if tokenizer.chat_form is not None:
        return list(tokenizer.chat_form.stops)
    return [_id(name, tokenizer) for name in stop_tokens(tokenizer)]


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """Id of what ends a text, and pads: ``<|endoftext|>``, or what a model with a template of its own has for it.

    Raises:
        UserError: it has none.
    """
    named = tokenizer.chat_form.tokens if tokenizer.chat_form is not None else {}
    for name in (END_OF_TEXT, named.get("pad_token", ""), named.get("eos_token", "")):
        if name in tokenizer.template_tokens:
            return tokenizer.template_tokens[name]
    return _id(END_OF_TEXT, tokenizer)


def segments(messages: Sequence[Message], tokenizer: Tokenizer, *, generation: bool = False) -> Iterator[Segment]:
    """The conversation piece by piece, swallowed white space already gone, no empty pieces.

    Joined, their texts are the prompt for a runtime that swallows nothing.
    """
    if tokenizer.chat_form is not None and tokenizer.chat_form.template:
        from phi3kit.text.jinja_form import written

        yield from written(messages, tokenizer, generation=generation)
        return
    before = ""  # the special token in front of the text to come
    if tokenizer.opens_with is not None:
        before = tokenizer.opens_with
        yield Segment(before, special=True)
    text = ""
    for message in messages:
        if message.role == "system" and not message.content and not message.tools:
            continue
        _check_form(message, tokenizer)
        role = f"<|{message.role}|>"
        yield from _text(text, before, role, tokenizer)
        learns = message.role == "assistant" and message.learned
        yield Segment(role, special=True)
        after = TOOL if message.tools else END
        yield from _text(f"\n{message.content}", role, after, tokenizer, learned=learns)
        if message.tools:
            yield Segment(TOOL, special=True)
            yield from _text(json.dumps(list(message.tools), ensure_ascii=False), TOOL, TOOL_END, tokenizer)
            yield Segment(TOOL_END, special=True)
        yield Segment(END, special=True, learned=((0, len(END)),) if learns else ())
        before, text = END, "\n"
    yield from _text(text, before, "<|assistant|>" if generation else "", tokenizer)
    if generation:
        yield Segment(ASSISTANT, special=True)
        yield from _text("\n", ASSISTANT, "", tokenizer)


def _check_form(message: Message, tokenizer: Tokenizer) -> None:
    """Raise `UserError` where the family's template has no form for what a message says."""
    for what in ("tool_calls", "reasoning", "name"):
        if getattr(message, what):
            where = ", or write it into `content` as the model shall say it" if message.role == "assistant" else ""
            raise UserError(
                f"the chat template has no form for {what} (a turn of the {message.role}); leave it out{where}"
            )
    needed = {"tools": bool(message.tools), "a tool's answer": message.role == "tool"}
    for what, there in needed.items():
        if there and not {TOOL, TOOL_END} <= tokenizer.template_tokens.keys():
            raise UserError(f"the chat template has no form for {what}: the tokenizer has no token {TOOL!r}")
    if message.tools and message.role != "system":
        raise UserError(
            f"the chat template has no form for tools in a turn of the {message.role}; declare them in the first"
        )


def _text(text: str, before: str, after: str, tokenizer: Tokenizer, *, learned: bool = False) -> Iterator[Segment]:
    """The text between the special tokens `before` and `after`, if anything is left of it; the template's newline is
    not learned."""
    left = text.lstrip(WHITE_SPACE) if before in tokenizer.swallows_space_after else text
    newline = int(left == text)
    left = left.rstrip(WHITE_SPACE) if after in tokenizer.swallows_space_before else left
    if left:
        yield Segment(left, special=False, learned=((newline, len(left)),) if learned else ())


def encode_segment(segment: Segment, tokenizer: Tokenizer, *, begins: bool = False) -> tuple[list[int], list[bool]]:
    """Ids of a segment, and whether each is supervised. A token that holds the end of the template's text and the
    beginning of an answer's is.

    Args:
        segment: what to encode.
        tokenizer: by what.
        begins: nothing is in front of it.
    """
    if segment.special:
        return [_id(segment.text, tokenizer)], [segment.supervised]
    encode = tokenizer.encode if begins else tokenizer.encode_after
    ids = encode(segment.text)
    supervised = [False] * len(ids)
    for begin, end in segment.learned:
        for place in range(_ids_before(begin, segment.text, ids, encode), len(ids)):
            supervised[place] = True
        for place in range(_ids_before(end, segment.text, ids, encode), len(ids)):
            supervised[place] = False
    return ids, supervised


def _ids_before(place: int, text: str, ids: list[int], encode: Callable[[str], list[int]]) -> int:
    """How many of a text's ids are those of its beginning alone."""
    if place == len(text):
        return len(ids)
    beginning = encode(text[:place]) if place else []
    same = 0
    while same < min(len(beginning), len(ids)) and beginning[same] == ids[same]:
        same += 1
    return same


def _id(name: str, tokenizer: Tokenizer) -> int:
    """Id of a special token the template needs."""
    if name not in tokenizer.template_tokens:
        raise UserError(
            f"the tokenizer has no special token {name!r}, which the chat template needs"
            + nearest(name, tokenizer.special_tokens)
        )
    return tokenizer.template_tokens[name]
