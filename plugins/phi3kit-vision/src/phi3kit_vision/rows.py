"""What the three kinds of image batches share: texts with images, packed into rows, loaded when their batch comes.

No loss falls where an image stands: neither is an image's row ever a label, nor is a token predicted at the last row
of an image (the token after it carries no loss; in the usual prompts it is a newline).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from phi3kit import Batch, Pictures, UserError
from phi3kit.families import Tokenizer
from phi3kit.phases.collate import Supervised, packed_batch
from phi3kit.text.template import end_of_text_id
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.image_files import BadImage, image_size, read_image
from phi3kit_vision.prompt import Prompt

NOTHING_FITS = "holds nothing to learn within {} tokens; raise context or lower crops"


@dataclass(frozen=True)
class Pictured:
    """A tokenized text and the files of its images, in the order in which they come in it."""

    text: Supervised
    images: tuple[Path, ...] = ()


def pictured(prompt: Prompt, images: Sequence[Path]) -> Pictured:
    """A prompt with its images; the token after an image loses its loss."""
    follows = [False, *(id < 0 for id in prompt.ids[:-1])]
    wanted = [s and not f for s, f in zip(prompt.supervised, follows, strict=True)]
    return Pictured(Supervised(prompt.ids, wanted), tuple(images[number] for number in prompt.order))


def lengths_of(images: Sequence[Path], hd: HDTransform) -> list[int]:
    """How many rows each image takes, from the headers of the files."""
    lengths = []
    for image in images:
        try:
            lengths.append(hd.count(image_size(image)))
        except BadImage:
            raise
        except UserError as error:
            raise BadImage(f"{image}: {error}") from error
    return lengths


def cut(one: Pictured, context: int) -> Pictured | None:
    """The text cut to `context` tokens at its end; None where that would cut an image."""
    ids, supervised = one.text.ids, one.text.supervised
    if any(id < 0 for id in ids[context:]):
        return None
    return Pictured(Supervised(ids[:context], supervised[:context]), one.images)


class Fitted(NamedTuple):
    """Texts within the context, and what was lost: how many are cut, how many left out, and a line that says it."""

    texts: list[Pictured]
    lost: dict[str, int]
    line: str


def fitting(file: Path, texts: Sequence[Pictured], context: int) -> Fitted:
    """The texts within `context` tokens, the last tokens of longer ones cut off."""
    fit = [cut(text, context) for text in texts]
    kept = [text for text in fit if text is not None and any(text.text.supervised)]
    long = sum(len(text.text.ids) > context for text in texts)
    images = sum(text is None for text in fit)
    empty = len(texts) - images - len(kept)
    line = (
        f"{file}: {long} of {len(texts)} are longer than {context} tokens: {long - images - empty} cut at the end, "
        f"{images} left out because their images do not fit" + (f", {empty} with nothing to learn" if empty else "")
    )
    return Fitted(kept, {"cut": long - images - empty, "left_out": images + empty}, line if long else "")


def next_fit(lengths: Sequence[int], capacity: int, seed: int) -> list[list[int]]:
    """Shuffled sequences packed one after another into rows of `capacity` tokens, in linear time."""
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed)).tolist()
    rows: list[list[int]] = []
    used = capacity
    for number in order:
        if used + lengths[number] > capacity:
            rows.append([])
            used = 0
        rows[-1].append(number)
        used += lengths[number]
    return rows


def pictured_batch(rows: list[list[Pictured]], tokenizer: Tokenizer, samples: list[int], hd: HDTransform) -> Batch:
    """Rows of texts as a batch, their images read and cut into views now.

    Raises:
        BadImage: an image is damaged.
    """
    padding = end_of_text_id(tokenizer)
    batch = packed_batch([[one.text for one in row] for row in rows], padding, samples)
    images = [image for row in rows for one in row for image in one.images]
    if images:
        seen = [hd(read_image(image)) for image in images]
        batch.pictures = Pictures(torch.cat([views for views, _ in seen]), [grid for _, grid in seen])
    return batch
