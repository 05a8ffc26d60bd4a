"""The cells of a study: an arm is a recipe, a cell is that recipe with one seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from phi3kit import __version__
from phi3kit import recipe as recipes
from phi3kit.errors import UserError

Value = str | int | float | bool | None
MARKS = ("manifest.json", "done.json")  # of folders that other verbs made: they say what is in them


@final
class Arm:
    """One of the things a study compares.

    Args:
        name: of its folder and in tables, e.g. "b".
        about: in a few words what it is.
        recipes: files, layered on top of those that all arms share.
        keys: dotted keys of the recipe and their values, on top of the files.
    """

    def __init__(
        self, name: str, about: str = "", recipes: Sequence[str] = (), keys: Mapping[str, Value] | None = None
    ) -> None:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(f"the arm {name!r} cannot name a folder; use letters, digits, - . and _")
        self.name, self.about, self.recipes, self.keys = name, about, list(recipes), dict(keys or {})


@dataclass(frozen=True)
class Cell:
    """One arm with one seed.

    Args:
        arm: its name.
        seed: its seed.
        content: the whole recipe.
        fingerprint: of that, and of the folders it reads.
    """

    arm: str
    seed: int
    content: dict[str, Any]
    fingerprint: str

    @property
    def out(self) -> Path:
        """Where it writes."""
        return Path(self.content["out"])


def cells(base: Sequence[str], arms: Sequence[Arm], seeds: Sequence[int], keys: Sequence[str], out: Path) -> list[Cell]:
    """Every arm with every seed, seed by seed, so that a study that was stopped has whole comparisons.

    Args:
        base: recipe files under every arm.
        arms: what is compared.
        seeds: of the cells.
        keys: dotted keys that take the seed.
        out: folder of the study.
    """
    return [_cell(base, arm, seed, keys, out / "runs" / arm.name / f"seed-{seed}") for seed in seeds for arm in arms]


def _cell(base: Sequence[str], arm: Arm, seed: int, keys: Sequence[str], out: Path) -> Cell:
    files = [*base, *arm.recipes]
    layers = [layer for file in files for layer in recipes.read_layers(file)]
    layers += [recipes.Layer(arm.name, recipes.at_key(key, value)) for key, value in arm.keys.items()]
    layers += [recipes.Layer("seed", recipes.at_key(key, seed)) for key in keys]
    content = recipes.merge(layers) | {"out": str(out)}
    content.pop("minutes", None)
    if "verb" not in content:
        raise UserError(f"the recipes of arm {arm.name!r} do not say which verb runs them; add e.g. `verb: fit`")
    read = [__version__, content, {str(mark): _hash(mark) for mark in _marks(content)}]
    return Cell(arm.name, seed, content, hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest())


def _marks(content: Any) -> Iterator[Path]:
    """What the folders say that a recipe reads, so that data made anew is trained on anew."""
    if isinstance(content, dict):
        content = [value for key, value in content.items() if key != "out"]
    if isinstance(content, list):
        for value in content:
            yield from _marks(value)
    elif isinstance(content, str):
        yield from (mark for name in MARKS if (mark := Path(content) / name).is_file())


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
