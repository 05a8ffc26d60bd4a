"""Chats: conversations and preferences, scored, without benchmark questions, and each told once.

What repeats another row in other words goes, as among documents; so none of it is both trained on and held out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from phi3kit.corpus.chats import ChatFile
from phi3kit.corpus.engine.stage import File, Stage
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.near_duplicates import near_duplicates, write_signatures
from phi3kit.corpus.rows import RowWriter, read_rows, write_splits
from phi3kit.corpus.shards import SCORES, read_shard
from phi3kit.corpus.stages.made import only, refused_by
from phi3kit.corpus.stages.score import AT_ONCE
from phi3kit.corpus.stages.screen import Questions, Screen
from phi3kit.families import Scorer, Synthesizer
from phi3kit.records import Conversation, Document, Preference
from phi3kit.text.chat_files import conversation_row, preference_row

Row = Conversation | Preference
ALIKE = "nearly the same as one before"


@dataclass(frozen=True)
class Chats(Stage):
    """Conversations and preferences, by split.

    Args:
        shards: scored documents.
        conversations: make chats of them, or read files.
        preferences: make pairs of answers.
        folder: that the paths of files start from.
        questions: of benchmarks; rows that give one away are left out.
        scorers: whose scores go into ``metadata["scores"]``.
        minhash: finds rows that repeat others; None: they stay.
    """

    name = "chats"
    shards: Sequence[File]
    conversations: Sequence[Synthesizer]
    preferences: Sequence[Synthesizer]
    folder: str
    questions: Questions
    scorers: Sequence[Scorer] = ()
    minhash: MinHash | None = None

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Write chat/SPLIT.jsonl and preferences/SPLIT.jsonl."""
        with chdir(self.folder):
            return self._write(folder)

    def _write(self, folder: Path) -> dict[str, Any]:
        counts: dict[str, Any] = {"contaminated": {}, "repeated": {}}
        with RowWriter(folder / "contamination.jsonl") as hits, RowWriter(folder / "rejected.jsonl") as rejected:
            screen = Screen(self.questions, hits)
            for name, kind, makers, row_of in (
                ("chat", Conversation, self.conversations, conversation_row),
                ("preferences", Preference, self.preferences, preference_row),
            ):
                clean = _Clean(screen)
                rows = self._scored(clean.of(only(kind, self._made(makers))))
                counts[name], counts["repeated"][name] = self._once(folder, name, rows, row_of, rejected)
                counts["contaminated"][name] = clean.dropped
        makers = [*self.conversations, *self.preferences]
        files = [maker.tally() for maker in makers if isinstance(maker, ChatFile)]
        counts["files"] = {str(tally.path): tally.counts() for tally in files if tally.rows}
        return counts | {"hits": screen.counts, "refused": refused_by(makers)}

    def _once(
        self,
        folder: Path,
        name: str,
        rows: Iterator[Any],
        row_of: Callable[[Any], dict[str, Any]],
        rejected: RowWriter,
    ) -> tuple[dict[str, int], int]:
        """Write the splits without what repeats a row before; how many rows each has, and how many repeated one."""
        if self.minhash is None:
            return write_splits(folder / name, ((row.metadata, row_of(row)) for row in rows)), 0
        spool = folder / f"{name}.spool"
        spool.mkdir()
        with RowWriter(spool / "rows") as writer:
            write_signatures(spool, _texts(rows, lambda row: writer.write(row_of(row))), self.minhash, web=False)
        again = {copy.row: copy.of_row for copy in near_duplicates([spool], self.minhash)}
        originals = {*again.values()}
        kept = {i: row["id"] for i, row in enumerate(read_rows(spool / "rows")) if i in originals}
        for i, row in enumerate(read_rows(spool / "rows")):
            if i in again:
                about = {"id": row["id"], "source": "", "part": name, "filter": "near-duplicate", "reason": ALIKE}
                rejected.write(about | {"kept": kept[again[i]]})
        left = (row for i, row in enumerate(read_rows(spool / "rows")) if i not in again)
        counts = write_splits(folder / name, ((row["metadata"], row) for row in left))
        shutil.rmtree(spool)
        return counts, len(again)

    def _scored(self, rows: Iterator[Row]) -> Iterator[Row]:
        while group := list(islice(rows, AT_ONCE)):
            columns = {s.aspect: s.score([text_of(row) for row in group]) for s in self.scorers}
            for i, row in enumerate(group):
                scores = {aspect: column[i] for aspect, column in columns.items()}
                yield replace(row, metadata=row.metadata | {SCORES: scores}) if scores else row

    def _made(self, makers: Sequence[Synthesizer]) -> Iterator[Any]:
        return chain.from_iterable(maker.make(self._documents()) for maker in makers)

    def _documents(self) -> Iterator[Document]:
        return chain.from_iterable(read_shard(shard.path) for shard in self.shards)


def text_of(row: Row) -> str:
    """What is said in a row: of a preference, from its last question on, since many pairs share a long prompt."""
    messages = row.messages if isinstance(row, Conversation) else (*row.prompt[-1:], *row.chosen, *row.rejected)
    return "\n\n".join(message.said for message in messages)


def _texts(rows: Iterable[Row], keep: Callable[[Row], None]) -> Iterator[str]:
    for row in rows:
        keep(row)
        yield text_of(row)


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
