"""House rules that a reader relies on: docstrings, final components, names, no traps in signatures."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import pytest

import phi3kit
from phi3kit import plugins
from phi3kit.families import Family, family_of

PACKAGE = Path(phi3kit.__file__).parent
TESTS = Path(__file__).parents[1]
PLUGINS = PACKAGE.parent / "plugins"
FILES = sorted([*PACKAGE.rglob("*.py"), *PLUGINS.glob("*/src/**/*.py")])
BANNED = {"utils", "util", "helpers", "helper", "misc", "common", "manager"}
OURS = [c for c in plugins.load().components if c.distribution.startswith("phi3kit")]


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def public(node: ast.AST) -> bool:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return isinstance(node, kinds) and not node.name.startswith("_")


def undocumented(path: Path) -> list[str]:
    """Public classes and functions without a docstring. A method may inherit its own from its family."""
    tree = ast.parse(path.read_text())
    nodes = [node for node in tree.body if public(node)]
    missing = [] if ast.get_docstring(tree) else ["the module"]
    return missing + [f"{node.name} (line {node.lineno})" for node in nodes if not ast.get_docstring(node)]


def test_there_are_files():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_everything_public_has_a_docstring(path):
    tests_of_the_template = path.name.startswith("test_")
    assert tests_of_the_template or not undocumented(path), undocumented(path)


def test_a_missing_docstring_is_noticed(tmp_path):
    source = tmp_path / "module.py"
    source.write_text('"""Here."""\n\ndef open(): ...\n\ndef _closed(): ...\n\nclass Bare: ...\n')
    assert undocumented(source) == ["open (line 3)", "Bare (line 7)"]


def test_module_names():
    stems = [part.removesuffix(".py") for path in FILES for part in path.relative_to(PACKAGE.parent).parts]
    private = {stem for stem in stems if stem.startswith("_") and stem not in ("__init__", "__main__")}
    assert not private, f"jsonargparse hides components of underscore modules: {private}"
    assert not BANNED & set(stems)


def test_there_are_components():
    assert len(OURS) > 10


@pytest.mark.parametrize("component", OURS, ids=lambda c: c.name)
def test_component_is_final_and_concrete(component):
    assert getattr(component.cls, "__final__", False), "not marked @final: recipes would offer its subclasses"
    assert not inspect.isabstract(component.cls)
    assert "_" not in component.name


@pytest.mark.parametrize("component", OURS, ids=lambda c: c.name)
def test_component_documents_its_options(component):
    """The ``Args:`` lines are the --help."""
    chosen = [p for p in inspect.signature(component.cls).parameters if p not in ("dims", "layer", "net")]
    text = f"{inspect.getdoc(component.cls)}\n{inspect.getdoc(component.cls.__init__)}"
    assert not [name for name in chosen if f"\n    {name}: " not in text]


@pytest.mark.parametrize("component", OURS, ids=lambda c: c.name)
def test_component_takes_what_it_uses(component):
    parameters = inspect.signature(component.cls).parameters.values()
    loose = [p.name for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert not loose, "options are spelled out"


def component_defaults(function: object) -> list[str]:
    """Parameters whose default is a component or a component class (jsonargparse #460)."""

    def is_component(value: object) -> bool:
        return family_of(value if inspect.isclass(value) else type(value)) is not None

    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return [p.name for p in parameters if is_component(p.default)]


def package_callables() -> list[tuple[str, object]]:
    """Every public class and function of the imported modules of this package."""
    found = []
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] == "phi3kit" and not name.startswith("phi3kit.testing"):
            members = [m for m in vars(module).values() if getattr(m, "__module__", None) == name]
            found += [(f"{name}.{m.__name__}", m) for m in members if inspect.isclass(m) or inspect.isfunction(m)]
    return found


def test_no_default_is_a_component():
    callables = package_callables()
    assert len(callables) > 50
    traps = []
    for name, each in callables:
        try:
            traps += [f"{name}({option})" for option in component_defaults(each)]
        except ValueError:  # some builtins' subclasses have no signature
            continue
    assert not traps, "a field that holds one component is required or None"


def test_a_component_default_is_noticed():
    from phi3kit.model import GatedMLP

    def trap(kind=GatedMLP, size=3): ...

    assert component_defaults(trap) == ["kind"]


def test_families_are_abstract():
    families = Family.__subclasses__()
    assert len(families) > 8
    for family in families:
        assert inspect.isabstract(family), f"{family.__name__} would be offered as a choice of its own"


def test_test_files_have_names_of_their_own():
    names = [path.name for folder in (TESTS, PLUGINS) for path in folder.rglob("test_*.py")]
    assert len(names) > 5
    assert len(names) == len(set(names)), sorted({n for n in names if names.count(n) > 1})
