"""Laws of `Executor`: every rank once, a finished one not again, a failure told and the rest kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import Done, Stage
from phi3kit.corpus.engine.store import Store
from phi3kit.corpus.progress import Progress
from phi3kit.errors import UserError
from phi3kit.families import Executor
from phi3kit.testing.law import require

RANKS = 3


@dataclass(frozen=True)
class Marks(Stage):
    """Each rank notes in a folder that it ran; one may fail.

    Args:
        notes: the folder.
        failing: the rank that fails while the file ``mended`` is missing there; -1: none.
    """

    name = "marks"
    notes: str
    failing: int = -1

    @property
    def ranks(self) -> int:
        """A few."""
        return RANKS

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        """Add a line to a note of this rank."""
        with (Path(self.notes) / f"rank-{rank}").open("a") as note:
            note.write("ran\n")
        if rank == self.failing and not (Path(self.notes) / "mended").exists():
            raise UserError(f"rank {rank} will not")
        (folder / "result").write_text(f"result of {rank}")
        return {"rank": rank}


def check_executor(build: Callable[[], Executor]) -> None:
    """Every law of `Executor`.

    Args:
        build: makes the executor.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        done = _run(build(), root, Marks(_notes(root / "good")))
        law = "every rank runs once"
        require(_runs(root / "good") == [1] * RANKS, law, f"runs of each rank: {_runs(root / 'good')}")
        results = [file.path.read_text() for file in done.files("result")]
        require(results == [f"result of {rank}" for rank in range(RANKS)], "every rank's result is there", f"{results}")
        stage = Marks(_notes(root / "bad"), failing=1)
        said = _complaint(build(), root, stage)
        require(said is not None and "rank 1 will not" in said, "a failure is told", f"it said {said!r}")
        before = _runs(root / "bad")
        (root / "bad" / "mended").touch()
        _run(build(), root, stage)
        after, law = _runs(root / "bad"), "a rank that is done does not run again, one that failed does"
        kept = all(a == b for rank, (a, b) in enumerate(zip(after, before, strict=True)) if b and rank != 1)
        require(kept and after[1] > before[1], law, f"runs of each rank: {before}, then {after}")


def _notes(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def _run(executor: Executor, root: Path, stage: Marks) -> Done:
    return Store(root / "stages", executor, Progress(quiet=True)).run(stage)


def _complaint(executor: Executor, root: Path, stage: Marks) -> str | None:
    try:
        _run(executor, root, stage)
    except UserError as error:
        return str(error)
    return None


def _runs(notes: Path) -> list[int]:
    files = [notes / f"rank-{rank}" for rank in range(RANKS)]
    return [len(file.read_text().splitlines()) if file.exists() else 0 for file in files]
