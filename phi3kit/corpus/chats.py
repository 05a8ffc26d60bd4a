"""Files of conversations and preferences as sources for `prepare`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar, final

from phi3kit.corpus.engine.describe import sha256_of
from phi3kit.families import Synthesizer
from phi3kit.records import Conversation, Document, Preference
from phi3kit.text.chat_files import conversations_of, preferences_of
from phi3kit.text.chat_shapes import Dialect
from phi3kit.text.chat_tally import Tally
from phi3kit.text.row_files import files_at
from phi3kit.text.splits import split_name

T = TypeVar("T", Conversation, Preference)


@final
class ConversationFile(Synthesizer):
    """Your own conversations: a JSONL, JSON or Parquet file, or a folder of them.

    OpenAI's ``messages``, ShareGPT's ``conversations``, Alpaca's ``instruction`` and ``output``, ``prompt`` and
    ``completion``. Paths of images are made absolute, since the rows move.

    Args:
        path: the file or folder.
        holdout: share of them kept from training, chosen by their ids; a row's own split goes first ("test" and
            "validation" are held out).
        optional: make none where there is no such file.
        unreadable: "skip" leaves out rows that cannot be used and counts them, "stop" ends at the first.
        role_map: roles of one's own: ``{bot: assistant}``.
        fields: fields of one's own, by the names known here: ``{messages: dialogue, content: said}``.
    """

    def __init__(
        self,
        path: str,
        holdout: float = 0.05,
        optional: bool = False,
        unreadable: Literal["skip", "stop"] = "skip",
        role_map: dict[str, str] | None = None,
        fields: dict[str, str | None] | None = None,
    ) -> None:
        self.path, self.holdout, self.optional, self.unreadable = path, holdout, optional, unreadable
        self.role_map, self.fields = role_map, fields
        self._tally = Tally(Path(path), unreadable)

    def make(self, documents: Iterable[Document]) -> Iterator[Conversation]:
        """The file's rows, in order, each with its split."""
        self._tally = Tally(Path(self.path), self.unreadable)
        return _prepared(self, conversations_of, self._tally)

    def tally(self) -> Tally:
        """What became of the rows in the last `make`."""
        return self._tally

    def glance(self) -> None:
        """Raise `UserError` where the file is missing, or nothing in it can be used."""
        next(_prepared(self, conversations_of, Tally(Path(self.path), self.unreadable)), None)

    def describe(self) -> Any:
        """The options and the files' contents."""
        return _described(self)


@final
class PreferenceFile(Synthesizer):
    """Your own preferences: a JSONL, JSON or Parquet file of ``prompt``, ``chosen``, ``rejected``, or a folder of them.

    Each is a text or turns; the answers may hold the prompt. Paths of images are made absolute, since the rows move.

    Args:
        path: the file or folder.
        holdout: share of them kept from training, chosen by their ids; a row's own split goes first ("test" and
            "validation" are held out).
        optional: make none where there is no such file.
        unreadable: "skip" leaves out rows that cannot be used and counts them, "stop" ends at the first.
        role_map: roles of one's own: ``{bot: assistant}``.
        fields: fields of one's own, by the names known here: ``{chosen: better, rejected: worse}``.
    """

    def __init__(
        self,
        path: str,
        holdout: float = 0.05,
        optional: bool = False,
        unreadable: Literal["skip", "stop"] = "skip",
        role_map: dict[str, str] | None = None,
        fields: dict[str, str | None] | None = None,
    ) -> None:
        self.path, self.holdout, self.optional, self.unreadable = path, holdout, optional, unreadable
        self.role_map, self.fields = role_map, fields
        self._tally = Tally(Path(path), unreadable)

    def make(self, documents: Iterable[Document]) -> Iterator[Preference]:
        """The file's rows, in order, each with its split."""
        self._tally = Tally(Path(self.path), self.unreadable)
        return _prepared(self, preferences_of, self._tally)

    def tally(self) -> Tally:
        """What became of the rows in the last `make`."""
        return self._tally

    def glance(self) -> None:
        """Raise `UserError` where the file is missing, or nothing in it can be used."""
        next(_prepared(self, preferences_of, Tally(Path(self.path), self.unreadable)), None)

    def describe(self) -> Any:
        """The options and the files' contents."""
        return _described(self)


ChatFile = ConversationFile | PreferenceFile


def _prepared(file: ChatFile, read: Callable[[Path, Tally, Dialect], Iterator[T]], tally: Tally) -> Iterator[T]:
    path = Path(file.path)
    if file.optional and not path.exists():
        return
    for row in read(path, tally, Dialect(file.role_map, file.fields)):
        split = split_name(row.metadata.get("split"))
        if split is None or not re.fullmatch(r"[\w-]+", split):
            if row.metadata.get("split") is not None:
                tally.unused["a split that cannot name a file"] += 1
            split = split_of(row.id, file.holdout)
        images = tuple(os.path.abspath(path.parent / image) for image in row.images)
        yield replace(row, metadata=row.metadata | {"split": split}, images=images)


def _described(file: ChatFile) -> Mapping[str, Any]:
    options = {name: value for name, value in vars(file).items() if not name.startswith("_")}
    path = Path(file.path)
    files = files_at(path) if path.exists() else []
    return {"class": type(file).__name__, **options, "files": [[str(each), sha256_of(each)] for each in files]}


def split_of(id: str, holdout: float) -> str:
    """ "heldout" for a share of all ids, "train" for the others; the same id always goes the same way."""
    return "heldout" if int.from_bytes(sha256(id.encode()).digest()[:8], "big") < holdout * 2**64 else "train"
