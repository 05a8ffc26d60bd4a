"""What phi3kit 0.1.0 saved or wrote still works: run configurations, class paths, and a plugin from `new-plugin`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from arithmetic import environment
from recipe_folders import RECIPES, need_plugin

from phi3kit import plugins
from phi3kit import recipe as recipes
from phi3kit.cli import VERBS

SAVED = Path(__file__).parent / "0.1.0"
FILES = sorted(SAVED.glob("*/*.yaml"))
CLASS_PATHS = (SAVED / "class_paths.txt").read_text().split()


def short_names(text: str) -> str:
    """A saved recipe with the classes of this project under their names alone, for modules may move."""
    return re.sub(r"(class_path: )phi3kit[\w.]*\.(\w+)", r"\1\2", text)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_a_saved_recipe_says_what_it_said(file: Path) -> None:
    need_plugin(RECIPES / file.parent.name)
    verb = yaml.safe_load(file.read_text())["verb"]
    name, *work = verb.split()
    declare = getattr(import_module(VERBS[name][0]), "_".join(["declare", *work]))
    read = yaml.safe_load(short_names(recipes.read(verb, declare, ["--recipe", str(file)]).text()))
    saved = yaml.safe_load(short_names(file.read_text()))
    assert {key: read[key] for key in saved} == saved


@pytest.mark.parametrize("path", CLASS_PATHS)
def test_a_saved_class_path_is_found(path: str) -> None:
    package = path.split(".")[0]
    if package != "phi3kit":
        pytest.importorskip(package, reason=f"{package} is not installed")
    component = plugins.load().find(path)
    assert component is not None
    assert component.cls.__name__ == path.rpartition(".")[2]


def test_a_plugin_that_new_plugin_wrote_passes_its_tests(tmp_path: Path) -> None:
    package = shutil.copytree(SAVED / "acme-calm", tmp_path / "acme-calm")
    site = tmp_path / "site"
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    for arguments in (
        ["pip", "install", *offline, "--target", str(site), str(package)],
        ["pytest", "-p", "no:cacheprovider", "-q", "tests"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=package, env={**environment(), "PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.strip().splitlines()[-1].split()[0]) >= 6  # "8 passed in 4.2s"
