"""Who imports whom: a room imports levels below its own, and nothing of another room on its level.

Imports inside functions and for type checking count too: they are dependencies all the same. `testing` stands
with level 3: it may build on rooms 0 to 2, and nothing in the package builds on it. What plugins are promised
(levels 0 and 1, `testing`, and `phases`, where the families Phase and Batches live) binds our own plugins and the
template that `phi3kit new-plugin` copies.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import phi3kit

PACKAGE = Path(phi3kit.__file__).parent
PLUGINS = PACKAGE.parent / "plugins"
TEMPLATE = PACKAGE / "verbs" / "plugin_template"

FOUNDATIONS = {
    *("", "families", "records", "hookspecs", "plugins", "recipe", "recipe_errors", "errors"),
    *("layers", "recipe_file", "bounds", "recipe_bounds", "recipe_components", "out_folder"),
    *("torchvision_ops", "lazy_torchmetrics", "native_output", "bundle", "opened", "executorch_ops"),
    *("executorch_runtime", "json_files"),
}
LEVELS = [
    {"": FOUNDATIONS},
    {room: {room} for room in ("model", "text", "measures", "quantizers")},
    {room: {room} for room in ("corpus", "phases", "safety", "evaluation", "export", "serve", "checkpoints")},
    {"top": {"cli", "builtin", "verbs"}, "testing": {"testing"}},
]
PLACE = {name: (level, room) for level, rooms in enumerate(LEVELS) for room, names in rooms.items() for name in names}
PUBLIC = {name: module.split(".")[1] for name, module in phi3kit._PUBLIC.items()}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if not p.is_relative_to(TEMPLATE))
OUTSIDE = sorted([*TEMPLATE.rglob("*.py"), *PLUGINS.glob("*/src/**/*.py")])


def rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, room) of each import of phi3kit in a file; the package itself is ''."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; name the module in full"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for parts in (module.split(".") for module in modules):
            if parts[0] == "phi3kit":
                name = parts[1] if len(parts) > 1 else ""
                yield node.lineno, PUBLIC.get(name, name if name in PLACE else "")


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def may_import(importer: str, imported: str) -> bool:
    (level, room), (below, other) = PLACE[importer], PLACE[imported]
    return below < level or (below, other) == (level, room)


def test_every_room_has_a_place():
    assert {room_of(path) for path in FILES} <= set(PLACE)
    assert {"families", "model", "text", "phases", "verbs", "testing"} <= {room_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_imports_only_below(path):
    upward = [
        f"{path.relative_to(PACKAGE.parent)}:{line} imports phi3kit.{imported}"
        for line, imported in rooms_imported(path)
        if not may_import(room_of(path), imported)
    ]
    assert not upward, "\n".join(upward)


def test_the_walk_sees_imports():
    found = {room for path in FILES for _, room in rooms_imported(path)}
    assert {"families", "records", "errors", "model", "text", "phases"} <= found
    assert ("families", "model") not in [(room_of(p), r) for p in FILES for _, r in rooms_imported(p)]
    assert not may_import("families", "model")
    assert not may_import("model", "text")
    assert not may_import("verbs", "testing")
    assert may_import("phases", "model")


def test_plugins_use_what_they_are_promised():
    assert OUTSIDE, "no plugin and no template found"
    promised = {name for level in LEVELS[:2] for names in level.values() for name in names} | {"testing", "phases"}
    beyond = [
        f"{path.relative_to(PACKAGE.parent)}:{line} imports phi3kit.{imported}"
        for path in OUTSIDE
        for line, imported in rooms_imported(path)
        if imported not in promised
    ]
    assert not beyond, "\n".join(beyond)


HEAVY = ("torch", "lightning", "transformers", "litdata", "torchao", "executorch", "pyarrow", "jsonargparse")


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after a statement."""
    script = f"import sys\n{statement}\nprint(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import phi3kit; phi3kit.Document; phi3kit.UserError; phi3kit.hookimpl",
        "import phi3kit.cli, phi3kit.verbs.plugins, phi3kit.builtin",
        "from phi3kit import plugins; plugins.listing()",
    ],
)
def test_importing_is_cheap(statement):
    assert loaded_by(statement) == set()


def test_the_heavy_are_noticed():
    assert "torch" in loaded_by("import phi3kit.families")


@pytest.mark.parametrize("room", ["model", "text", "measures", "quantizers"])
def test_level_1_imports_no_trainer(room):
    assert not loaded_by(f"import phi3kit.{room}") & {"lightning", "litdata", "executorch"}
