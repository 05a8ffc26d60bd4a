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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from phi3kit.errors import UserError, nearest
from phi3kit.families import Tokenizer
from phi3kit.records import Message

END = "<|end|>"
END_OF_TEXT = "<|endoftext|>"
ASSISTANT = "<|assistant|>"

# Unicode's White_Space, which Rust's \s matches and `rstrip` swallows; str.isspace() counts four more.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class Segment(NamedTuple):
    """A special token, or the text between two of them."""

    text: str
    special: bool
    supervised: bool = False  # for text: from `content_from` on
    content_from: int = 0  # where in the text the message's content begins, after the template's newline


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
        new, is_supervised = encode_segment(segment, tokenizer)
        ids += new
        supervised += is_supervised
    return Rendered(ids, supervised)


def render_turn(content: str, tokenizer: Tokenizer) -> list[int]:
    """Ids that follow an assistant's answer when the user goes on with `content`.

    They begin with the ``<|end|>`` that closes the answer (a generator stops there and has not read it yet) and
    end with the opening of the next answer.
    """
    turn = [Message("assistant", ""), Message("user", content)]
    rendered = render(turn, tokenizer, generation=True)
    return rendered.ids[rendered.ids.index(_id(END, tokenizer)) :]


def stop_tokens(tokenizer: Tokenizer) -> list[str]:
    """What ends an answer, the token that closes a turn first; the three of Phi-3's `generation_config.json`."""
    return [END, END_OF_TEXT, ASSISTANT]


def stop_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of what ends an answer."""
    return [_id(name, tokenizer) for name in stop_tokens(tokenizer)]


def segments(messages: Sequence[Message], tokenizer: Tokenizer, *, generation: bool = False) -> Iterator[Segment]:
    """The conversation piece by piece, swallowed white space already gone, no empty pieces.

    Joined, their texts are the prompt for a runtime that swallows nothing.
    """
    swallows = tokenizer.swallows_space_after
    before = ""  # the special token in front of the text to come
    if tokenizer.opens_with is not None:
        before = tokenizer.opens_with
        yield Segment(before, special=True)
    text = ""
    for message in messages:
        if message.role == "system" and not message.content:
            continue
        yield from _text(text, before, swallows)
        role = f"<|{message.role}|>"
        learns = message.role == "assistant"
        yield Segment(role, special=True)
        yield from _text(f"\n{message.content}", role, swallows, supervised=learns)
        yield Segment(END, special=True, supervised=learns)
        before, text = END, "\n"
    yield from _text(text, before, swallows)
    if generation:
        yield Segment(ASSISTANT, special=True)
        yield from _text("\n", ASSISTANT, swallows)


def _text(text: str, before: str, swallows: frozenset[str], *, supervised: bool = False) -> Iterator[Segment]:
    """The text after the special token `before`, if anything is left of it."""
    left = text.lstrip(WHITE_SPACE) if before in swallows else text
    if left:
        yield Segment(left, special=False, supervised=supervised, content_from=int(left == text))


def encode_segment(segment: Segment, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Ids of a segment, and whether each is supervised: of an assistant's text, all but the template's newline
    (unless the content begins with white space and one token holds both)."""
    if segment.special:
        return [_id(segment.text, tokenizer)], [segment.supervised]
    ids = tokenizer.encode(segment.text)
    given = 0
    if segment.content_from:
        newline = tokenizer.encode(segment.text[: segment.content_from])
        while given < min(len(newline), len(ids)) and newline[given] == ids[given]:
            given += 1
    return ids, [segment.supervised and i >= given for i in range(len(ids))]


def _id(name: str, tokenizer: Tokenizer) -> int:
    """Id of a special token the template needs."""
    if name not in tokenizer.special_tokens:
        raise UserError(
            f"the tokenizer has no special token {name!r}, which the chat template needs"
            + nearest(name, tokenizer.special_tokens)
        )
    return tokenizer.special_tokens[name]
