"""The folder of one training run: what is in it, when it is done, and where to go on.

config.yaml         the recipe, every default included; repeats the run
tokenizer/          the tokenizer it was trained with
checkpoints/        step-00001000.ckpt: weights, optimizer, data state; of a finished run the last
metrics.csv         a row every few steps            tensorboard/   the same
data.json           fingerprints of the data it is trained on
start.json          held-out measures before the first step
model.safetensors   the final weights                report.json    what was reached
done.json           written last; holds the recipe's fingerprint
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import yaml

from phi3kit.errors import UserError
from phi3kit.recipe import Recipe

NOT_THE_WORK = ("out", "verb", "minutes", "checkpoint_every", "changes_net")  # keys that do not change what is learned
_STEP = re.compile(r"step-(\d+)\.ckpt$")


@final
class RunFolder:
    """Reads and writes a run's folder; every file appears whole or not at all.

    Args:
        path: the folder.
        first: this process is the one of several that writes; the others' writing does nothing.
    """

    def __init__(self, path: Path, first: bool = True) -> None:
        self.path, self.first = path, first
        self.longer: tuple[int, int] | None = None  # steps so far and steps wanted, where the recipe asks for more

    def check(self, recipe: Recipe) -> None:
        """Refuse a folder that holds the run of another recipe; one of fewer steps may be made longer."""
        config = self.path / "config.yaml"
        if config.is_file():
            old, new = yaml.safe_load(config.read_text()), yaml.safe_load(recipe.text())
            differing = _differences(old, new)
            if differing == ["trainer.max_steps"] and self._can_be_longer(old, new):
                self.longer = (old["trainer"]["max_steps"], new["trainer"]["max_steps"])
            elif differing:
                raise UserError(
                    f"{self.path} holds a run of another recipe (differs in {', '.join(differing[:4])}); "
                    "give this one another --out, or remove that folder"
                )

    def _can_be_longer(self, old: Any, new: Any) -> bool:
        if not old["trainer"]["max_steps"] < new["trainer"]["max_steps"]:
            return False
        if self.finished and not self.checkpoints():
            raise UserError(
                f"{self.path} kept no checkpoint to go on from (checkpoint_every is {old['checkpoint_every']}), so the "
                "run cannot be made longer; give another --out"
            )
        return True

    def claim(self, recipe: Recipe) -> None:
        """Write the recipe into the folder, once, or where the run is made longer; from then on the folder is its."""
        config = self.path / "config.yaml"
        if not self.first:
            return
        if self.longer:
            print(
                f"{self.path}: {self.longer[1]} steps instead of {self.longer[0]}; from here on the learning rate "
                f"follows the schedule of {self.longer[1]} steps"
            )
            (self.path / "done.json").unlink(missing_ok=True)  # first: a run without it only goes on
        if self.longer or not config.is_file():
            write(config, recipe.save)

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, and is to be no longer."""
        return self.longer is None and (self.path / "done.json").is_file()

    def checkpoints(self) -> list[Path]:
        """Published checkpoints, oldest first."""
        found = [p for p in self.path.glob("checkpoints/*.ckpt") if _STEP.search(p.name)]
        return sorted(found, key=lambda p: int(_STEP.search(p.name)[1]))  # type: ignore[index]

    def keep_newest(self, count: int) -> None:
        """Remove all checkpoints but the newest."""
        if self.first:
            for old in self.checkpoints()[:-count]:
                old.unlink()

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:08d}.ckpt"

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        if self.first:
            write(self.path / name, lambda partial: partial.write_text(json.dumps(content, indent=2) + "\n"))

    def read_json(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        return json.loads(path.read_text()) if path.is_file() else None


def write(target: Path, save: Callable[[Path], Any]) -> None:
    """Let `save` write a partial file beside the target, make it durable, then give it its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    try:
        save(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        if _is_disk_full(error):
            raise UserError(
                f"the disk is full while saving {target}; earlier files are whole: free some space and run again"
            ) from error
        raise


def _is_disk_full(error: BaseException) -> bool:
    """torch.save reports a failed write as a RuntimeError of its own."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    text = str(error)
    return "unexpected pos" in text or "file write failed" in text or "No space left" in text


def _differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Dotted keys at which two recipes differ; where a run is written does not count."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in sorted({*old, *new}) if at or k not in NOT_THE_WORK]
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{at}.{k}" if at else k)]
    return [] if old == new else [at]
