"""How far a cell has come, on disk: a study that was stopped goes on, and a finished cell is not touched again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from phi3kit.errors import UserError
from phi3kit.evaluation.arms import Cell

REPORT = "report.json"


class State:
    """What has been done of a cell, in ``cells/ARM.seed-N.json``.

    Args:
        out: folder of the study.
        cell: whose.
    """

    def __init__(self, out: Path, cell: Cell) -> None:
        self.cell = cell
        name = f"{cell.arm}.seed-{cell.seed}"
        self.recipe, self._path = out / "recipes" / f"{name}.yaml", out / "cells" / f"{name}.json"
        known = json.loads(self._path.read_text()) if self._path.is_file() else {}
        self._known: dict[str, Any] = known
        self.started = known.get("fingerprint") == cell.fingerprint
        self.done = self.started and known["done"] and cell.out.is_dir()

    def begin(self) -> None:
        """Write the cell's recipe; what another recipe left in its folder goes."""
        if not self.started and self.cell.out.exists():
            shutil.rmtree(self.cell.out)  # ours: it is in the study's folder
        self.recipe.parent.mkdir(exist_ok=True)
        write(self.recipe, yaml.safe_dump(self.cell.content, sort_keys=False))
        self._known = {"fingerprint": self.cell.fingerprint, "done": False, "measures": {}}
        self._save()

    def finish(self) -> None:
        """Note that its verb came to an end."""
        self._known["done"] = True
        self._save()

    def has(self, name: str, version: str) -> bool:
        """Whether it has been measured so."""
        return self._known["measures"].get(name, {}).get("version") == version

    def keep(self, name: str, version: str, found: dict[str, Any]) -> None:
        """Note a measure."""
        self._known["measures"][name] = {"version": version, **found}
        self._save()

    def of(self, name: str) -> dict[str, Any]:
        """A measure."""
        return self._known["measures"][name]

    def _save(self) -> None:
        write(self._path, json.dumps(self._known, indent=2) + "\n")


def write(path: Path, text: str) -> None:
    """A file that appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def reported(folder: Path, key: str) -> float:
    """A number of a folder's report.json, by its dotted key. Raises `UserError` where there is none."""
    file = folder / REPORT
    content: Any = json.loads(file.read_text()) if file.is_file() else {}
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            has = ", ".join(content) if isinstance(content, dict) else repr(content)
            raise UserError(f"{file} has no {key!r}: at {part!r} it has {has or 'nothing'}; mend `reported`")
        content = content[part]
    if isinstance(content, bool) or not isinstance(content, int | float):
        raise UserError(f"{key!r} of {file} is {content!r}, not a number; mend `reported`")
    return float(content)
