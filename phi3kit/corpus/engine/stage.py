"""One stage of the work: its folder is named after all that decides its content, its ranks can be repeated alone.

A stage's folder is ``NAME-HASH``. Rank n works in ``0000n.partial`` and renames it to ``0000n`` when everything is
in it, with ``rank.json``: what it counted, and the sha256 of its files. When all ranks are there, ``stage.json``
says so; a stage with that file is not run again. A stage whose options, code or input differ has another hash.
"""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from phi3kit.corpus.engine.describe import code_of, describe, digest, objects_in, sha256_of
from phi3kit.errors import UserError

FORMAT = 1  # of what stages write; another number makes everything anew
RANK, DONE, ERRORS = "rank.json", "stage.json", "errors"


@dataclass(frozen=True)
class File:
    """A file that a stage wrote. For whoever reads it, it is its content, wherever it lies."""

    path: Path
    sha256: str
    bytes: int

    def describe(self) -> str:
        """Its content's hash."""
        return self.sha256


@dataclass(frozen=True)
class Done:
    """A finished stage.

    Args:
        name: of the stage.
        folder: where its ranks are.
        ranks: what each rank counted, and its files.
    """

    name: str
    folder: Path
    ranks: list[dict[str, Any]]

    def files(self, name: str = "") -> list[File]:
        """The files of all ranks whose name starts with `name`, in order."""
        return list(self._files(name))

    def _files(self, start: str) -> Iterator[File]:
        for number, rank in enumerate(self.ranks):
            for name, file in sorted(rank["files"].items()):
                if name.startswith(start):
                    yield File(self.folder / f"{number:05d}" / name, file["sha256"], file["bytes"])

    def file(self, name: str) -> File:
        """The one file of this name."""
        (found,) = self.files(name)
        return found

    def counts(self) -> list[dict[str, Any]]:
        """What each rank counted."""
        return [rank["counts"] for rank in self.ranks]


@dataclass(frozen=True)
class Stage(ABC):
    """A stage: a frozen dataclass whose fields are all that decides its content. Travels to worker processes."""

    name: ClassVar[str]

    @property
    def ranks(self) -> int:
        """How many pieces of work it is."""
        return 1

    @property
    def volatile(self) -> list[int]:
        """Ranks whose input cannot be compared with what it was: they are done again in every run."""
        return []

    @abstractmethod
    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Do one piece, all of whose files go to `folder`; return what was counted, the same every time."""

    def check(self, done: Done) -> None:
        """Look at all ranks' counts before the stage counts as done. Raises `UserError` if they do not fit."""
        return

    def describe(self) -> dict[str, Any]:
        """Everything that decides what it writes."""
        return {field.name: describe(getattr(self, field.name)) for field in fields(self)}

    @property
    def bytes(self) -> int:
        """Size of the files it reads."""
        return sum(getattr(item, "bytes", 0) for item in objects_in(self) if item is not self)

    @property
    def key(self) -> str:
        """Hash of that, and of the code."""
        from phi3kit import __version__

        return digest([FORMAT, __version__, self.name, self.describe(), code_of(self)])[:16]


def run_rank(stage: Stage, rank: int, folder: Path) -> None:
    """Do one rank's work in the stage's folder: all of it or nothing.

    What goes wrong is also written to ``errors/``, because whoever waits may be another process or machine.
    """
    partial, final, error = folder / f"{rank:05d}.partial", folder / f"{rank:05d}", folder / ERRORS / f"{rank:05d}.json"
    error.unlink(missing_ok=True)
    try:
        for old in (partial, final):
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir(parents=True)
        counts = stage.work(rank, partial)
        files = {
            file.relative_to(partial).as_posix(): {"sha256": sha256_of(file), "bytes": file.stat().st_size}
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        (partial / RANK).write_text(json.dumps({"counts": counts, "files": files}, ensure_ascii=False))
        os.rename(partial, final)
    except Exception as failure:
        _tell(failure, error)
        shutil.rmtree(partial, ignore_errors=True)  # a full disk gets room again
        raise


def _tell(failure: Exception, file: Path) -> None:
    message = str(failure)
    if isinstance(failure, OSError):
        message = f"{failure.strerror or failure}" + (f": {failure.filename}" if failure.filename else "")
    kind = "user" if isinstance(failure, UserError) else "system" if isinstance(failure, OSError) else "bug"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"kind": kind, "message": message}))
    except OSError:  # no room even for that
        return


def read_done(folder: Path, name: str, ranks: int) -> Done:
    """A stage's counts and files, from its ranks' own notes."""
    return Done(name, folder, [json.loads((folder / f"{rank:05d}" / RANK).read_text()) for rank in range(ranks)])
