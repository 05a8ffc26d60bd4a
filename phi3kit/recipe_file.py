"""One YAML file of a recipe, read strictly: what YAML would pass over in silence is refused, with its line.

Special here: a key that stands twice in one mapping is refused (YAML lets the last win), dates stay text, numbers such
as ``1e-5`` are numbers (YAML 1.1 wants ``1.0e-5``), and nothing is read that has no JSON, no end or no bounds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import yaml

from phi3kit.errors import UserError

MOST_VALUES: Final = 1_000_000  # aliases may stand for more than any machine holds


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML with each key once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        return super().construct_mapping(node, deep)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise _Refused(f"{line}: a key must be a name, got {key_node.value!r}; quote it if it is one")
            if key in seen:
                raise _Refused(f"{line}: the key {key!r} stands in line {seen[key]} already; leave one of them out")
            seen[key] = line


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in known if not tag.endswith((":timestamp", ":float"))]
    for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\.\d[\d_]*([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


class _Refused(Exception):
    """What is wrong, begun by the number of its line."""


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a file. Raises `UserError` that names the file and, where there is one, the line."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8-sig"), _Loader)
        _check_values(content)
    except OSError as error:
        raise UserError(f"cannot read the recipe {file}: {error.strerror}") from error
    except _Refused as error:
        raise UserError(f"{file}:{error}") from error
    except RecursionError as error:
        raise UserError(f"{file} is nested too deeply for a recipe") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, OverflowError) as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        raise UserError(f"{file}{line} is not YAML: {getattr(error, 'problem', None) or _first_line(error)}") from error
    content = with_homes(content)
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a recipe: a mapping of keys is expected, got {type(content).__name__}")
    return content


def with_homes(content: Any) -> Any:
    """``~/`` at the beginning of a value is the home folder, as a shell has it."""
    if isinstance(content, dict):
        return {key: with_homes(value) for key, value in content.items()}
    if isinstance(content, list):
        return [with_homes(value) for value in content]
    return with_home(content) if isinstance(content, str) else content


def with_home(text: str) -> str:
    """The same of one text, or of the value in ``--option=~/value``."""
    option, joined, value = text.partition("=") if text.startswith("--") else ("", "", text)
    if value != "~" and not value.startswith("~/"):
        return text
    return f"{option}{joined}{os.path.expanduser(value)}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_values(content: Any) -> None:
    """Raise `ValueError` for what has no JSON, and for mappings that hold themselves or too much."""
    left, parents = MOST_VALUES, []  # type: ignore[var-annotated]

    def check(value: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"it stands for more than {MOST_VALUES:,} values")
        if isinstance(value, list | dict):
            if any(value is parent for parent in parents):
                raise ValueError("an anchor holds itself")
            parents.append(value)
            for inside in value.values() if isinstance(value, dict) else value:
                check(inside)
            parents.pop()
        elif not (value is None or isinstance(value, str | int | float)):
            raise ValueError(f"a {type(value).__name__} is no value of a recipe")

    check(content)
