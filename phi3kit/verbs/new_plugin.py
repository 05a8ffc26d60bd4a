"""``phi3kit new-plugin NAME``: a plugin package to start from, whose tests pass as written.

It is a copy of the working package in ``plugin_template/`` under another name.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
from pathlib import Path

from phi3kit.errors import UserError

TEMPLATE = Path(__file__).parent / "plugin_template"


def main(arguments: list[str]) -> int:
    """Write the package and say what to do next."""
    parser = argparse.ArgumentParser(
        prog="phi3kit new-plugin", allow_abbrev=False, description="Write a plugin package whose tests pass as written."
    )
    parser.add_argument("name", help="name of the distribution: lower case, words joined by hyphens")
    parser.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="where to put it (default: here)")
    chosen = parser.parse_args(arguments)
    target = write(chosen.name, chosen.into)
    print(f"wrote {target}; now: pip install -e {target} && pytest {target}")
    return 0


def write(name: str, into: Path) -> Path:
    """Write the package into ``into/name``; returns that folder.

    Raises:
        UserError: the name cannot be a distribution's and a module's, or the folder is there already.
    """
    _check(name)
    target = into / name
    if target.exists():
        raise UserError(f"{target} is there already; choose another name, or --into another folder")
    for source in sorted(p for p in TEMPLATE.rglob("*") if p.suffix in (".py", ".md", ".toml")):
        path = target / renamed(str(source.relative_to(TEMPLATE)), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(renamed(source.read_text(), name))
    return target


def renamed(text: str, name: str) -> str:
    """The template's names, replaced: of the distribution, the module and the classes."""
    words = name.split("-")
    text = text.replace("example-plugin", name).replace("example_plugin", "_".join(words))
    return re.sub(r"Example(?=Attention|Filter)", "".join(word.capitalize() for word in words), text)


def _check(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UserError(
            f"{name!r} cannot name a plugin; use lower-case letters and digits, words joined by hyphens, "
            "like acme-attention"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise UserError(f"{name!r} is taken: Python already knows {module!r}; choose another name")
