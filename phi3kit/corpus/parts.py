"""A part of the prepared data: documents as tokens, those to train on and those held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from phi3kit.corpus.tokens import TokenWriter
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import Document

AT_ONCE = 256  # documents encoded together


def write_part(
    folder: Path, documents: Iterable[Document], heldout: set[str], tokenizer: Tokenizer
) -> dict[str, dict[str, int]]:
    """Write one part: tokens for train and heldout, and the ids of its documents; return the counts of each split.

    Args:
        folder: of the part, e.g. data/NAME/web; must not exist.
        documents: all of its documents, in order.
        heldout: ids kept from training; what was made of such a document is kept from it too.
        tokenizer: gives the ids.
    """
    folder.mkdir()
    with (
        TokenWriter(folder / "train", tokenizer) as train,
        TokenWriter(folder / "heldout", tokenizer) as held,
        (folder / "documents.txt").open("w", encoding="utf-8") as ids,
    ):
        for group in _groups(documents):
            encoded = tokenizer.encode_batch([document.text for document in group])
            for document, tokens in zip(group, encoded, strict=True):
                original = document.metadata.get("made_from", document.id)
                (held if original in heldout else train).write([tokens])
                ids.write(f"{document.id}\n")
    counts = {s: {"documents": w.documents, "tokens": w.tokens} for s, w in (("train", train), ("heldout", held))}
    for split, count in counts.items():
        if not count["documents"]:
            raise UserError(
                f"no document is left for {folder.name}/{split}; read more documents, or shorter ones "
                "(one can be in training or held out, not in both)"
            )
    return counts


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    rest = iter(documents)
    while group := list(islice(rest, AT_ONCE)):
        yield group
