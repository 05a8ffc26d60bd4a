"""Where stages live, and how one is run: skipped when it is done, gone on with when it was stopped.

The store is one folder of stage folders. It can be thrown away; then the next run begins anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import DONE, ERRORS, RANK, Done, Stage, read_done
from phi3kit.corpus.progress import Progress
from phi3kit.errors import UserError
from phi3kit.families import Executor

LOG = "log"


class Store:
    """Runs stages in one folder.

    Args:
        root: the folder; made if need be.
        executor: runs the ranks.
        progress: shows how far a stage is.
    """

    def __init__(self, root: Path, executor: Executor, progress: Progress) -> None:
        self.root, self.executor, self.progress = root, executor, progress
        self.seconds: dict[str, float] = {}  # of each stage that ran now
        self.used: list[Done] = []

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second `prepare` of the same folder out."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"another `prepare` is at work in {self.root}; wait for it, or stop it") from error
            yield

    def run(self, stage: Stage) -> Done:
        """The stage, run now or found finished. Raises `UserError` with what stopped it; what was done stays."""
        folder = self.root / f"{stage.name}-{stage.key}"
        self._forget_volatile(stage, folder)
        if not (folder / DONE).is_file():
            began = time.perf_counter()
            self._execute(stage, folder)
            done = read_done(folder, stage.name, stage.ranks)
            stage.check(done)
            self._finish(stage, folder)
            spent = self.seconds.get(stage.name, 0.0) + time.perf_counter() - began
            self.seconds[stage.name] = round(spent, 2)
        done = read_done(folder, stage.name, stage.ranks)
        _check_files(done)
        self.used.append(done)
        return done

    def prune(self) -> None:
        """Throw away what the stages run or found so far have replaced."""
        keep = {done.folder.name for done in self.used}
        for folder in self.root.iterdir():
            if folder.is_dir() and folder.name not in keep:
                shutil.rmtree(folder)

    def _forget_volatile(self, stage: Stage, folder: Path) -> None:
        """Ranks whose input cannot be compared are done again, once per run."""
        if stage.volatile and folder.name not in {done.folder.name for done in self.used}:
            (folder / DONE).unlink(missing_ok=True)
            for rank in stage.volatile:
                shutil.rmtree(folder / f"{rank:05d}", ignore_errors=True)

    def _execute(self, stage: Stage, folder: Path) -> None:
        from phi3kit.corpus.engine.step import StageStep

        log = folder / LOG
        shutil.rmtree(folder / ERRORS, ignore_errors=True)
        for rank in range(stage.ranks):
            if not (folder / f"{rank:05d}" / RANK).is_file():
                (log / "completions" / f"{rank:05d}").unlink(missing_ok=True)
        try:
            with self.progress.step(stage.name, stage.ranks, lambda: _completed(log)):
                self.executor.run(stage.name, [StageStep(stage, folder)], stage.ranks, log)
        except Exception as error:
            self._raise_told(stage, folder, error)
            if isinstance(error, OSError):  # of the executor itself
                raise UserError(f"{stage.name} stopped: {error.strerror or error}: {folder}; {AGAIN}") from error
            raise
        self._raise_told(stage, folder, None)
        missing = [rank for rank in range(stage.ranks) if not (folder / f"{rank:05d}" / RANK).is_file()]
        if missing:
            raise UserError(
                f"{stage.name}: rank {missing[0]} of {stage.ranks} ended without a result (see above); {AGAIN}"
            )

    def _raise_told(self, stage: Stage, folder: Path, cause: Exception | None) -> None:
        """Raise what the first failing rank wrote down."""
        for file in sorted((folder / ERRORS).glob("*.json")):
            told: dict[str, Any] = json.loads(file.read_text())
            if told["kind"] == "user":
                raise UserError(told["message"]) from cause
            if told["kind"] == "system":
                raise UserError(f"{stage.name} stopped: {told['message']}; nothing is lost, {AGAIN}") from cause
            raise cause or RuntimeError(f"{stage.name}, rank {file.stem}: {told['message']}")

    def _finish(self, stage: Stage, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)  # of a stage without ranks
        partial = folder / f"{DONE}.partial"
        partial.write_text(json.dumps({"stage": stage.name, "ranks": stage.ranks, "of": stage.describe()}, indent=1))
        os.replace(partial, folder / DONE)


AGAIN = "mend it and run the same command again: it goes on where it stopped"


def _completed(log: Path) -> int:
    folder = log / "completions"
    return len(os.listdir(folder)) if folder.is_dir() else 0


def _check_files(done: Done) -> None:
    """A file of a finished stage that was cut or lost is named."""
    for file in done.files():
        size = file.path.stat().st_size if file.path.is_file() else None
        if size != file.bytes:
            state = "is gone" if size is None else f"has {size} bytes instead of {file.bytes}"
            raise UserError(f"{file.path} {state}; remove {done.folder} and run the same command again")
