"""Held-out texts, measured in bits per byte: passages of whole paragraphs, the same ones for every net."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from phi3kit.errors import UserError
from phi3kit.evaluation.likelihood import Row, nats, windows
from phi3kit.families import Reader, Tokenizer
from phi3kit.measures import bits_per_byte
from phi3kit.model import Decoder


@final
class HeldOutText:
    """Texts that no arm trains on.

    Args:
        name: what tables and plots call it.
        reader: where the texts come from.
        passage: characters of a passage at most; runs of spaces in it become one. 0: each document, as it is, is one.
        passages: measure at most so many, spread evenly over all; null: all.
        without: leave out paragraphs with any of these in them: what is left of markup.
        paragraph: leave out paragraphs of fewer characters: headings, and what stands around lost formulas.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        passage: int = 2000,
        passages: int | None = None,
        without: Sequence[str] = (),
        paragraph: int = 1,
    ) -> None:
        if passage < 0 or (passages is not None and passages < 1):
            raise UserError(f"{name!r} has passages of {passage} characters, {passages} of them; give positive numbers")
        self.name, self.reader, self.passage, self.passages = name, reader, passage, passages
        self.without, self.paragraph = list(without), paragraph

    def read(self) -> list[str]:
        """The passages, in order. Raises `UserError` where there are none."""
        found = [part for document in self.reader.read() for part in self._parts(document.text)]
        if not found:
            raise UserError(f"{self.name!r} has no text to measure; point its reader at files that hold some")
        wanted = min(self.passages or len(found), len(found))
        return [found[i * len(found) // wanted] for i in range(wanted)]

    def _parts(self, text: str) -> Iterator[str]:
        if not self.passage:
            yield from [text] * bool(text.strip())
            return
        lines = "\n".join(" ".join(line.split()) for line in text.split("\n"))
        long = (p.strip("\n") for p in lines.split("\n\n") if len(p.strip("\n")) >= self.paragraph)
        paragraphs = [p for p in long if not any(mark in p for mark in self.without)]
        part = ""
        for paragraph in (piece for whole in paragraphs for piece in _cut(whole, self.passage)):
            if part and len(part) + len(paragraph) + 2 > self.passage:
                yield part
                part = ""
            part = f"{part}\n\n{paragraph}" if part else paragraph
        if part:
            yield part


def _cut(paragraph: str, longest: int) -> Iterator[str]:
    """A paragraph in pieces of at most so many characters, cut between words where it can be."""
    while len(paragraph) > longest:
        end = paragraph.rfind(" ", 1, longest + 1)
        end = end if end > 0 else longest
        yield paragraph[:end]
        paragraph = paragraph[end:].lstrip(" ")
    if paragraph:
        yield paragraph


@dataclass(frozen=True)
class Bits:
    """What a net makes of held-out passages.

    Args:
        per_byte: bits per byte of what was predicted.
        size: bytes predicted.
    """

    per_byte: float
    size: int


def bits(net: Decoder, tokenizer: Tokenizer, passages: Iterable[str]) -> Bits:
    """Bits per byte of passages; the first token of each is read, not predicted, and its bytes are not counted."""
    rows: list[Row] = []
    size = 0
    for passage in passages:
        ids = tokenizer.encode(passage)
        rows += windows(ids, net.dims.context)
        size += len(passage.encode()) - len(tokenizer.decode(ids[:1]).encode())
    if not rows:
        raise UserError("held-out passages have fewer than two tokens each; give longer ones")
    return Bits(bits_per_byte(sum(nats(net, rows)), size), size)
