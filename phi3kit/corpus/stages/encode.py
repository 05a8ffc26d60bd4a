"""Vocabulary and encode: the tokenizer, given or trained, and every scored document's ids, counted.

Documents are encoded once for all phases, so a changed threshold or mixture costs no encoding, and what remains at
each threshold is known in tokens before any are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.rows import read_rows
from phi3kit.corpus.shards import read_batches, read_columns
from phi3kit.families import Tokenizer
from phi3kit.text.bpe import train_bpe
from phi3kit.text.folder import save_tokenizer
from phi3kit.text.template import end_of_text_id

DOCUMENTS_AT_ONCE, CHARACTERS_AT_ONCE = 256, 2**22


@dataclass(frozen=True)
class Vocabulary(Stage):
    """The tokenizer: the one given, or a BPE of the documents and of what is said in training chats.

    Args:
        tokenizer: given; None: one is trained.
        vocab_size: of the one to train.
        shards: documents to train on.
        chats: files of conversations to train on.
    """

    name = "tokenizer"
    tokenizer: Tokenizer | None
    vocab_size: int | None
    shards: Sequence[File]
    chats: Sequence[File]

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the tokenizer's folder."""
        tokenizer = self.tokenizer or self._train()
        save_tokenizer(tokenizer, folder / "tokenizer")
        return {
            "class": type(tokenizer).__name__,
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
        }

    def _train(self) -> Tokenizer:
        assert self.vocab_size is not None
        texts = (row["text"] for shard in self.shards for row in read_columns(shard.path, ["text"]))
        said = (m["content"] for file in self.chats for row in read_rows(file.path) for m in row["messages"])
        return train_bpe(chain(texts, said), vocab_size=self.vocab_size)


@dataclass(frozen=True)
class Encode(Stage):
    """Every document's ids, its end included.

    Args:
        shards: documents of each rank.
        tokenizer: gives the ids; travels to the workers.
    """

    name = "encode"
    shards: Sequence[File]
    tokenizer: Tokenizer

    @property
    def ranks(self) -> int:
        """One per shard."""
        return len(self.shards)

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write ``ids.bin`` (uint16 or int32) and ``lengths.bin`` (int32 per document)."""
        tokenizer = self.tokenizer
        kind, end = id_type(tokenizer), end_of_text_id(tokenizer)
        documents = tokens = 0
        with (folder / "ids.bin").open("wb") as ids, (folder / "lengths.bin").open("wb") as lengths:
            for texts in _groups(self.shards[rank].path):
                encoded = tokenizer.encode_batch(texts)
                sizes = numpy.fromiter((len(row) + 1 for row in encoded), numpy.int32, len(encoded))
                for row in encoded:
                    row.append(end)
                together: numpy.ndarray = numpy.fromiter(chain.from_iterable(encoded), kind, int(sizes.sum()))
                ids.write(together.tobytes())
                lengths.write(sizes.tobytes())
                documents, tokens = documents + len(encoded), tokens + len(together)
        return {"documents": documents, "tokens": tokens, "type": numpy.dtype(kind).name}


def id_type(tokenizer: Tokenizer) -> type:
    """How ids are stored: half the space where the vocabulary fits."""
    return numpy.uint16 if tokenizer.vocab_size <= 2**16 else numpy.int32


def _groups(shard: Path) -> Iterator[list[str]]:
    """A shard's texts, a few at a time."""
    texts: list[str] = []
    size = 0
    for batch in read_batches(shard, ["text"]):
        for text in batch.column(0).to_pylist():
            texts.append(text)
            size += len(text)
            if len(texts) == DOCUMENTS_AT_ONCE or size > CHARACTERS_AT_ONCE:
                yield texts
                texts, size = [], 0
    if texts:
        yield texts
