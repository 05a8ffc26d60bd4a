"""Every recipe parses, names where it writes, and continues where the one before it ends."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from phi3kit import recipe as recipes
from phi3kit.cli import VERBS
from phi3kit.verbs.run import read_steps

FOLDERS = sorted(p for p in (Path(__file__).parents[2] / "recipes").iterdir() if p.is_dir())
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("[0-9]*.yaml"))]


def test_there_are_recipes() -> None:
    assert len(FILES) >= 7


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_a_recipe_parses_and_says_what_it_realises(file: Path) -> None:
    assert file.read_text().startswith("# ")
    verb = recipes.merge(recipes.read_layers(file))["verb"]
    declare = import_module(VERBS[verb][0]).declare
    recipe = recipes.read(verb, declare, ["--recipe", str(file)])
    assert recipe.out
    # What is saved parses again to the same.
    again = recipes.read(verb, declare, ["--recipe", _saved(recipe)])
    assert again.text() == recipe.text()


def _saved(recipe: recipes.Recipe) -> str:
    import tempfile

    path = Path(tempfile.mkdtemp()) / "config.yaml"
    recipe.save(path)
    return str(path)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_every_step_starts_from_one_before_it(folder: Path) -> None:
    steps = list(read_steps(folder))
    seen = set()
    for step in steps:
        content = recipes.merge(recipes.read_layers(step.recipe))
        if "start_from" in content:
            assert content["start_from"] in seen
        seen.add(str(step.out))
    assert len({step.fingerprint for step in steps}) == len(steps)
