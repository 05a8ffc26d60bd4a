"""A broken plugin is one clear line that names its distribution, and the others still work.

Each plugin here is a module and real metadata (``.dist-info``) in a folder on the path, as pip would leave them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from arithmetic import environment

HEADER = "from phi3kit import Document, Filter, hookimpl\n\n"
FILTER = "class {name}(Filter):\n    '''Keeps all.'''\n    def reject(self, document): return None\n\n"
HOOK = "@hookimpl\ndef {hook}(): return [{returns}]\n"


def module(returns: str, *filters: str, hook: str = "phi3kit_components", before: str = "") -> str:
    classes = "".join(FILTER.format(name=name) for name in filters)
    return HEADER + before + classes + HOOK.format(hook=hook, returns=returns)


PLUGINS = {  # distribution -> (module's source, what its fault must say; empty: it works)
    "aaa-healthy": (module("HealthyFilter", "HealthyFilter"), ""),
    "no-import": (
        "import package_that_is_not_there\n",
        "cannot import 'no_import': ModuleNotFoundError: No module",
    ),
    "no-family": (
        module("Homeless", before="class Homeless:\n    pass\n\n"),
        "Homeless belongs to no family; subclass one of Annotator, Attention, ",
    ),
    "name-taken": (
        module(
            "RoPE",
            before="from phi3kit import Position\n\nclass RoPE(Position):\n    def forward(self, p): ...\n\n",
        ),
        "RoPE collides with the component of that name from phi3kit; rename the class",
    ),
    "name-taken-by-peer": (
        module("HealthyFilter", "HealthyFilter"),
        "HealthyFilter collides with the component of that name from aaa-healthy; rename the class",
    ),
    "wrong-hook": (
        module("Forgotten", "Forgotten", hook="phi3kit_component"),
        "module 'wrong_hook' implements an unknown hook (phi3kit_component); the one hook is phi3kit_components",
    ),
    "no-hook": ("def phi3kit_components(): return []\n", "has no phi3kit_components marked with @hookimpl"),
    "no-class": (module("'RoPE'"), "phi3kit_components returned 'RoPE', which is not a class"),
    "no-method": (
        module("Unfinished", before="class Unfinished(Filter):\n    pass\n\n"),
        "Unfinished (Filter) leaves abstract: reject",
    ),
    "bad-hook": (
        HEADER + "@hookimpl\ndef phi3kit_components(): raise RuntimeError('not today')\n",
        "RuntimeError: not today",
    ),
    "quits": ("import sys\nsys.exit('goodbye')\n", "cannot import 'quits': SystemExit: goodbye"),
    "no-module": (None, "cannot import 'no_module': ModuleNotFoundError: No module named 'no_module'"),
    "zzz-healthy": (module("LastFilter", "LastFilter"), ""),
}
BROKEN = {name: said for name, (_, said) in PLUGINS.items() if said}


def write_plugin(folder: Path, distribution: str, source: str | None) -> None:
    """A module (None: forgotten) and the metadata that names it as a plugin."""
    name = distribution.replace("-", "_")
    if source is not None:
        (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[phi3kit]\n{name} = {name}\n")


def phi3kit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "phi3kit.cli", *arguments],
        cwd=folder, env={**environment(), "PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    for distribution, (source, _) in PLUGINS.items():
        write_plugin(folder, distribution, source)
    return folder


@pytest.fixture(scope="module")
def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    return phi3kit(folder, "plugins", "--check")


def test_listing_imports_none_of_them(folder):
    done = phi3kit(folder, "plugins")
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert {name for name in listed if not name.startswith("phi3kit-")} == {"phi3kit", *PLUGINS}


@pytest.mark.parametrize("distribution", BROKEN)
def test_one_line_names_the_broken_plugin(checked, distribution):
    lines = [line for line in checked.stdout.splitlines() if line.strip().startswith(f"plugin {distribution}:")]
    assert len(lines) == 1, checked.stdout + checked.stderr
    assert BROKEN[distribution] in lines[0]


def test_check_counts_them_and_fails(checked):
    assert checked.returncode == 1
    assert f"faults: {len(BROKEN)}\n" in checked.stdout
    assert "Traceback" not in checked.stderr


def test_the_others_still_work(checked):
    components = {line.split()[0] for line in checked.stdout.splitlines() if line.startswith("  ")}
    assert {"HealthyFilter", "LastFilter", "RoPE", "GroupedQueryAttention"} <= components
    assert not {"Homeless", "Forgotten", "Unfinished"} & components
    owners = [line.split()[1] for line in checked.stdout.splitlines() if line.startswith("  RoPE ")]
    assert owners == ["phi3kit"]


def test_other_verbs_warn_and_go_on(folder, tmp_path):
    """A parser is built, a recipe read; the warnings come first, one line each."""
    (tmp_path / "recipe.yaml").write_text("verb: fit\nnet:\n  position:\n    class_path: RoPE\n")
    done = phi3kit(folder, "fit", "--recipe", str(tmp_path / "recipe.yaml"), "--print_config")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("phi3kit: warning: ")]
    assert [line.split()[3].removesuffix(":") for line in warnings] == sorted(BROKEN)
    assert all(line.endswith(" (left out)") for line in warnings)
    assert "class_path: phi3kit.model" in done.stdout  # ours, not the collider's
