"""Rows of chats for a data module: the files of its parts, or one file of which a share is held out; and their counts.

Special here: a share is chosen by what rows ask, not by where they stand. So rows that ask the same are on one side,
and most rows stay on their side when others are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final

from phi3kit.errors import UserError
from phi3kit.records import Conversation, Preference
from phi3kit.text.chat_shapes import Dialect
from phi3kit.text.chat_tally import Tally, Unreadable
from phi3kit.text.splits import HELDOUT, split_name

Record = Conversation | Preference
T = TypeVar("T")


class Part(NamedTuple):
    """The rows of a part with the tally of the file they are from, and what is to be said of how they were chosen."""

    rows: list[Any]
    tally: Tally
    file: Path
    chosen: str = ""


@final
class RowSource:
    """Reads rows, and holds some out where no file of held-out rows is given.

    Args:
        read: the reader: path, tally, dialect -> records.
        train: a file or folder.
        heldout: the same, or None.
        holdout: share of `train` to hold out where `heldout` is None.
        seed: chooses them.
        unreadable: what to do with rows that cannot be used.
        dialect: of the files.
    """

    def __init__(
        self,
        read: Callable[[Path, Tally, Dialect], Iterator[Record]],
        train: Path,
        heldout: Path | None,
        holdout: float,
        seed: int,
        unreadable: Unreadable,
        dialect: Dialect,
    ) -> None:
        if heldout is None and not 0 < holdout < 1:
            raise UserError(f"holdout is {holdout}; give a share between 0 and 1, or a file as `heldout`")
        self.read, self.unreadable, self.dialect = read, unreadable, dialect
        self.files = {"train": Path(train), "heldout": None if heldout is None else Path(heldout)}
        self.holdout, self.seed = holdout, seed
        Tally(Path(train), unreadable)  # checks the option before anything is read
        self._parts: dict[str, Part] = {}

    def part(self, name: str) -> Part:
        """The rows of "train" or "heldout". Raises `UserError` as the reader does."""
        file = self.files[name]
        if file is not None and self.files["heldout"] is not None:
            tally = Tally(file, self.unreadable)
            return Part(list(self.read(file, tally, self.dialect)), tally, file)
        if name not in self._parts:
            self._parts = self._divided()
        return self._parts.pop(name)

    def _divided(self) -> dict[str, Part]:
        """Both parts of the one file; unreadable rows count with those to train on."""
        file = self.files["train"]
        assert file is not None
        tally = Tally(file, self.unreadable)
        rows = list(self.read(file, tally, self.dialect))
        held, why = held_out(rows, self.holdout, self.seed)
        parts = {True: [row for row, is_held in zip(rows, held, strict=True) if is_held]}
        parts[False] = [row for row, is_held in zip(rows, held, strict=True) if not is_held]
        if not parts[True] or not parts[False]:
            raise UserError(
                f"{file} has too few different rows ({len(rows)}) to hold some out; give a file as `heldout`"
            )
        chosen = f"{file}: {len(parts[True])} of {len(rows)} rows are held out ({why})"
        second = Tally(file, self.unreadable)
        tally.rows, second.rows = tally.bad + len(parts[False]), len(parts[True])
        return {"train": Part(parts[False], tally, file, chosen), "heldout": Part(parts[True], second, file, chosen)}


def used(part: Part, make: Callable[[Any], T]) -> list[T]:
    """What is made of each row; a row that it cannot be made of is counted with the unreadable ones.

    Raises `UserError` with the row's place where that is to stop, and where most rows are so.
    """
    made = []
    for row in part.rows:
        try:
            made.append(make(row))
        except UserError as error:
            part.tally.refuse(row.place, str(error))
    part.tally.check()
    return made


def counts_of(part: Part, **lost: int) -> dict[str, int]:
    """A part's numbers for the report: its rows, those that cannot be used, and what else was lost."""
    return {"rows": part.tally.rows, "unreadable": part.tally.bad, **lost}


def told(part: Part, long: str | int) -> str:
    """What people should know of a part, in lines: how it was chosen, what is not used of it, what is too long."""
    return "\nphi3kit: ".join(line for line in (part.chosen, *part.tally.lines(), long or "") if line)  # type: ignore[misc]


def held_out(rows: Sequence[Record], holdout: float, seed: int) -> tuple[list[bool], str]:
    """Which rows are held out, and by what: those whose own split says so, or a share of what is asked."""
    own = [split_name(row.metadata.get("split")) == HELDOUT for row in rows]
    if any(own):
        return own, "their own split says so"
    keys = [sha256(f"{seed} {_asked(row)}".encode()).digest() for row in rows]
    if len(set(keys)) < 2:
        keys = [sha256(f"{seed} {row.id}".encode()).digest() for row in rows]
    last = sorted(keys)[max(1, round(holdout * len(rows))) - 1]
    return [key <= last for key in keys], f"holdout: {holdout}, seed {seed}"


def _asked(row: Record) -> str:
    """What comes before a row's first answer."""
    messages = row.messages if isinstance(row, Conversation) else row.prompt
    before = [message.content for message in messages if message.role != "system"]
    first = next((n for n, message in enumerate(messages) if message.role == "assistant"), len(messages))
    asked = [message.content for message in messages[:first] if message.role != "system"]
    return "\n".join(asked or before)
