"""The folder of one training run: what is in it, when it is done, and where to go on.

config.yaml         the recipe, every default included; repeats the run
tokenizer/          the tokenizer it was trained with
checkpoints/        step-00001000.ckpt: weights, optimizer, data state
metrics.csv         one row per logged step          tensorboard/   the same
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

    def check(self, recipe: Recipe) -> None:
        """Refuse a folder that holds the run of another recipe."""
        config = self.path / "config.yaml"
        if config.is_file():
            differing = _differences(yaml.safe_load(config.read_text()), yaml.safe_load(recipe.text()))
            if differing:
                raise UserError(
                    f"{self.path} holds a run of another recipe (differs in {', '.join(differing[:4])}); "
                    "give this one another --out, or remove that folder"
                )

    def claim(self, recipe: Recipe) -> None:
        """Write the recipe into the folder, once; from then on the folder is this recipe's."""
        config = self.path / "config.yaml"
        if self.first and not config.is_file():
            write(config, recipe.save)

    @property
    def finished(self) -> bool:
        return (self.path / "done.json").is_file()

    def checkpoints(self) -> list[Path]:
        """Published checkpoints, oldest first."""
        found = [p for p in self.path.glob("checkpoints/*.ckpt") if _STEP.search(p.name)]
        return sorted(found, key=lambda p: int(_STEP.search(p.name)[1]))  # type: ignore[index]

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
