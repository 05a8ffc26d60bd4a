"""Made: exercises out of the chosen documents; conversations and preferences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.queries import SYNTHETIC
from phi3kit.corpus.rows import write_splits
from phi3kit.corpus.shards import ShardWriter, read_shard
from phi3kit.corpus.stages.choose import chosen
from phi3kit.errors import UserError
from phi3kit.families import Synthesizer
from phi3kit.records import Conversation, Document, Preference
from phi3kit.text.chat_files import conversation_row, preference_row


@dataclass(frozen=True)
class Exercises(Stage):
    """Synthetic documents made of one phase's documents.

    Args:
        shards: scored documents.
        masks: their phases.
        phase: number of the phase whose documents are used.
        makers: make the exercises.
        shard_bytes: size of a shard.
    """

    name = "exercises"
    shards: Sequence[File]
    masks: Sequence[File]
    phase: int
    makers: Sequence[Synthesizer]
    shard_bytes: int

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the exercises in shards."""
        n = shards = 0
        writer: ShardWriter | None = None
        for document in _only(Document, chain.from_iterable(maker.make(self._documents()) for maker in self.makers)):
            if writer is None or writer.bytes >= self.shard_bytes:
                if writer is not None:
                    writer.__exit__(None, None, None)
                writer = ShardWriter(folder / f"documents-{shards:05d}.parquet")
                shards += 1
            writer.write(replace(document, metadata=document.metadata | {SYNTHETIC: True}))
            n += 1
        if writer is not None:
            writer.__exit__(None, None, None)
        return {"documents": n}

    def _documents(self) -> Iterator[Document]:
        for shard, masks in zip(self.shards, self.masks, strict=True):
            yield from chosen(shard, masks, self.phase)


@dataclass(frozen=True)
class Chats(Stage):
    """Conversations and preferences, by split.

    Args:
        shards: scored documents.
        conversations: make chats of them, or read files.
        preferences: make pairs of answers.
    """

    name = "chats"
    shards: Sequence[File]
    conversations: Sequence[Synthesizer]
    preferences: Sequence[Synthesizer]

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write chat/SPLIT.jsonl and preferences/SPLIT.jsonl."""
        chats = _only(Conversation, chain.from_iterable(m.make(self._documents()) for m in self.conversations))
        pairs = _only(Preference, chain.from_iterable(m.make(self._documents()) for m in self.preferences))
        return {
            "chat": write_splits(folder / "chat", ((c.metadata, conversation_row(c)) for c in chats)),
            "preferences": write_splits(folder / "preferences", ((p.metadata, preference_row(p)) for p in pairs)),
        }

    def _documents(self) -> Iterator[Document]:
        return chain.from_iterable(read_shard(shard.path) for shard in self.shards)


def _only(kind: type, made: Iterable[Any]) -> Iterator[Any]:
    for item in made:
        if not isinstance(item, kind):
            raise UserError(f"a {kind.__name__} is wanted here, but {type(item).__name__} {item.id!r} was made")
        yield item
