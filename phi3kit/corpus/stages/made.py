"""Made: exercises out of the chosen documents; conversations and preferences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.queries import SYNTHETIC
from phi3kit.corpus.rows import RowWriter, write_splits
from phi3kit.corpus.shards import ShardWriter, read_shard
from phi3kit.corpus.stages.choose import chosen
from phi3kit.corpus.stages.screen import Questions, Screen
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
        folder: that the paths of files start from.
    """

    name = "exercises"
    shards: Sequence[File]
    masks: Sequence[File]
    phase: int
    makers: Sequence[Synthesizer]
    shard_bytes: int
    folder: str

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write the exercises in shards."""
        with chdir(self.folder):
            return self._write(folder)

    def _write(self, folder: Path) -> dict[str, Any]:
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
        return {"documents": n, "refused": _refused(self.makers)}

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
        folder: that the paths of files start from.
        questions: of benchmarks; rows that give one away are left out.
    """

    name = "chats"
    shards: Sequence[File]
    conversations: Sequence[Synthesizer]
    preferences: Sequence[Synthesizer]
    folder: str
    questions: Questions

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write chat/SPLIT.jsonl and preferences/SPLIT.jsonl."""
        with chdir(self.folder):
            return self._write(folder)

    def _write(self, folder: Path) -> dict[str, Any]:
        with RowWriter(folder / "contamination.jsonl") as hits:
            screen = Screen(self.questions, hits)
            chats, pairs = _Clean(screen), _Clean(screen)
            talks = chats.of(_only(Conversation, self._made(self.conversations)))
            choices = pairs.of(_only(Preference, self._made(self.preferences)))
            counts = {
                "chat": write_splits(folder / "chat", ((c.metadata, conversation_row(c)) for c in talks)),
                "preferences": write_splits(folder / "preferences", ((p.metadata, preference_row(p)) for p in choices)),
            }
        return counts | {
            "contaminated": {"chat": chats.dropped, "preferences": pairs.dropped},
            "hits": screen.counts,
            "refused": _refused([*self.conversations, *self.preferences]),
        }

    def _made(self, makers: Sequence[Synthesizer]) -> Iterator[Any]:
        return chain.from_iterable(maker.make(self._documents()) for maker in makers)

    def _documents(self) -> Iterator[Document]:
        return chain.from_iterable(read_shard(shard.path) for shard in self.shards)


class _Clean:
    """Rows that give no benchmark question away; counts the others."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.dropped = screen, 0

    def of(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            if self.screen.leak(row):
                self.dropped += 1
            else:
                yield row


def _refused(makers: Sequence[Synthesizer]) -> Counter[str]:
    """Why things were not made, over all makers: reason -> how often."""
    reasons: Counter[str] = Counter()
    for maker in makers:
        reasons.update(maker.refused())
    return reasons


def _only(kind: type, made: Iterable[Any]) -> Iterator[Any]:
    for item in made:
        if not isinstance(item, kind):
            raise UserError(f"a {kind.__name__} is wanted here, but {type(item).__name__} {item.id!r} was made")
        yield item
