"""Text with ``<|image_k|>`` tags -> ids, with a run of the id -k where image k's rows go.

As the public processor (`processing_phi3_v.py`) does: the text is split at the tags, and the pieces between them are
encoded one by one. It also puts ``<s>`` before every piece, so after every image; `bos_after_image` does the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from phi3kit import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import Message
from phi3kit.text.template import encode_segment, segments

TAG = re.compile(r"<\|image_(\d+)\|>")


class Prompt(NamedTuple):
    """A text as ids; `supervised` says which of them are to be learned, `order` which image comes when (from 0)."""

    ids: list[int]
    supervised: list[bool]
    order: list[int]


def render_pictured(
    messages: Sequence[Message],
    lengths: Sequence[int],
    tokenizer: Tokenizer,
    *,
    generation: bool = False,
    bos_after_image: bool = False,
) -> Prompt:
    """A conversation as ids, in the template that `phi3kit.text.render` knows.

    Args:
        messages: the turns; tags may stand in user turns only.
        lengths: rows of each image, image 1 first.
        tokenizer: must have the template's special tokens.
        generation: end with the opening of an assistant turn.
        bos_after_image: the token that opens a conversation also follows each image.

    Raises:
        UserError: the tags are not the images', each once.
    """
    for message in messages:
        if message.role != "user" and (tag := TAG.search(message.content)):
            raise UserError(f"{tag[0]} stands in a turn of the {message.role}; only user turns show images")
    order = image_order([message.content for message in messages], len(lengths))
    ids: list[int] = []
    supervised: list[bool] = []
    for segment in segments(messages, tokenizer, generation=generation):
        if segment.special or segment.supervised:
            new, wanted = encode_segment(segment, tokenizer)
        else:
            new = list(encode_pictured(segment.text, lengths, tokenizer, bos_after_image))
            wanted = [False] * len(new)
        ids += new
        supervised += wanted
    return Prompt(ids, supervised, order)


def image_order(texts: Sequence[str], images: int) -> list[int]:
    """Numbers (from 0) of the images in the order of their tags. Raises `UserError` unless each has one tag."""
    numbers = [int(number) for text in texts for number in TAG.findall(text)]
    if sorted(numbers) != list(range(1, images + 1)):
        got = " ".join(f"<|image_{number}|>" for number in numbers) or "no tags"
        wanted = f"<|image_1|> to <|image_{images}|> once each" if images > 1 else "<|image_1|> once"
        raise UserError(f"there are {images} images and the text has {got}; write {wanted if images else 'none'}")
    return [number - 1 for number in numbers]


def encode_pictured(
    text: str, lengths: Sequence[int], tokenizer: Tokenizer, bos_after_image: bool = False, *, alone: bool = False
) -> Iterator[int]:
    """Ids of a text with tags, which stands `alone` or follows a special token. As in the public processor, what
    follows an image is encoded as a text alone."""
    after = tokenizer.opens_with if bos_after_image else None
    for place, piece in enumerate(TAG.split(text)):  # text, number, text, number, …, text
        if place % 2 == 0:
            encode = tokenizer.encode if alone or place else tokenizer.encode_after
            yield from encode(piece) if piece else ()
            continue
        yield from [-int(piece)] * lengths[int(piece) - 1]
        if after is not None:
            yield tokenizer.special_tokens[after]
