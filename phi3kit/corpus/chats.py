"""Files of conversations and preferences as sources for `prepare`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import final

from phi3kit.families import Synthesizer
from phi3kit.records import Conversation, Document, Preference
from phi3kit.text.chat_files import read_conversations, read_preferences


@final
class ConversationFile(Synthesizer):
    """Your own conversations: a JSONL or Parquet file of ``messages``.

    Args:
        path: the file.
        holdout: share of them kept from training, chosen by their ids; a row's own ``metadata.split`` goes first.
        optional: make none where there is no such file.
    """

    def __init__(self, path: str, holdout: float = 0.05, optional: bool = False) -> None:
        self.path, self.holdout, self.optional = path, holdout, optional

    def make(self, documents: Iterable[Document]) -> Iterator[Conversation]:
        """The file's rows, in order, each with its split."""
        if self.optional and not Path(self.path).is_file():
            return
        for row in read_conversations(Path(self.path)):
            yield replace(row, metadata={"split": split_of(row.id, self.holdout), **row.metadata})


@final
class PreferenceFile(Synthesizer):
    """Your own preferences: a JSONL or Parquet file of ``prompt``, ``chosen``, ``rejected``.

    Args:
        path: the file.
        holdout: share of them kept from training, chosen by their ids; a row's own ``metadata.split`` goes first.
        optional: make none where there is no such file.
    """

    def __init__(self, path: str, holdout: float = 0.05, optional: bool = False) -> None:
        self.path, self.holdout, self.optional = path, holdout, optional

    def make(self, documents: Iterable[Document]) -> Iterator[Preference]:
        """The file's rows, in order, each with its split."""
        if self.optional and not Path(self.path).is_file():
            return
        for row in read_preferences(Path(self.path)):
            yield replace(row, metadata={"split": split_of(row.id, self.holdout), **row.metadata})


def split_of(id: str, holdout: float) -> str:
    """ "heldout" for a share of all ids, "train" for the others; the same id always goes the same way."""
    return "heldout" if int.from_bytes(sha256(id.encode()).digest()[:8], "big") < holdout * 2**64 else "train"
