"""The layers of a recipe, merged into one content before anything is checked: one net for all verbs.

Layers, later ones winning: the files named by ``base:`` (relative to the file that says so), the ``--recipe`` files in
order, then ``--key.of.recipe VALUE`` on the command line. A mapping merges key by key. A list replaces a list;
``key+:`` appends to it, and a mapping of whole numbers changes single entries of it, counted from 0::

    net: {attention: {0: {init_args: {window: null}}}}

A changed ``class_path`` drops the arguments of the class before it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from phi3kit.errors import UserError, nearest
from phi3kit.recipe_file import read_yaml


@dataclass(frozen=True)
class Layer:
    """One YAML file, or the command line."""

    name: str
    content: dict[str, Any]


def read_layers(path: str | Path, below: tuple[Path, ...] = ()) -> list[Layer]:
    """A recipe file and, before it, the files its ``base:`` names."""
    file = Path(path).expanduser()
    if not os.path.isfile(file):
        folder = file.parent if os.path.isdir(file.parent) else Path()
        raise UserError(f"there is no recipe {str(path)!r}{_nearest_file(file, folder)}")
    if file.resolve() in below:
        raise UserError(f"{file}: its `base:` leads back to itself")
    content = read_yaml(file)
    bases = content.pop("base", None) or []
    if not isinstance(bases, str | list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{file}: base must be a file or a list of files, got {bases!r}")
    layers = [
        layer
        for base in ([bases] if isinstance(bases, str) else bases)
        for layer in read_layers(file.parent / Path(base).expanduser(), (*below, file.resolve()))
    ]
    return [*layers, Layer(str(file), content)]


def _nearest_file(file: Path, folder: Path) -> str:
    names = [str(p.relative_to(folder)) for p in folder.glob("*.yaml")]
    return nearest(file.name, names) if names else ""


def merge(layers: list[Layer]) -> dict[str, Any]:
    """The layers' content as one."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _over(merged, layer.content, layer.name, "")
    return merged


def _over(low: Any, high: Any, layer: str, at: str) -> Any:
    """A value over another one at a dotted key."""
    if isinstance(low, dict) and isinstance(low.get("class_path"), str) and isinstance(high, str):
        high = {"class_path": high}  # jsonargparse's short form
    if isinstance(high, list):
        return [_over(None, value, layer, f"{at}.{number}") for number, value in enumerate(high)]
    if not isinstance(high, dict):
        return high
    if isinstance(low, list) and high and all(isinstance(key, int) for key in high):
        return _entries(low, high, layer, at)
    if isinstance(low, str) and "init_args" in high:
        low = {"class_path": low}
    if not isinstance(low, dict) or ("class_path" in high and not _same_class(low, high)):
        low = {}
    merged = dict(low)
    for key, value in high.items():
        inside = f"{at}.{key}" if at else str(key)
        if isinstance(key, str) and key.endswith("+"):
            below, added = merged.get(key[:-1]) or [], value if isinstance(value, list) else [value]
            merged[key[:-1]] = [*below, *_over(None, added, layer, inside[:-1])]
        else:
            merged[key] = _over(merged.get(key), value, layer, inside)
    return merged


def _entries(low: list[Any], high: dict[int, Any], layer: str, at: str) -> list[Any]:
    """A list with single entries changed."""
    for number in high:
        if not 0 <= number < len(low):
            raise UserError(f"{layer}: {at} has no entry {number}; the layers below give it {len(low)}, from 0")
    return [
        _over(value, high[number], layer, f"{at}.{number}") if number in high else value
        for number, value in enumerate(low)
    ]


def _same_class(low: dict[str, Any], high: dict[str, Any]) -> bool:
    """Whether two mappings name one class, in full or by its short name."""
    (root, _, name), (other_root, _, other) = (
        (path.split(".")[0] if "." in path else "", *path.rpartition(".")[1:])
        for path in (str(low.get("class_path")), str(high["class_path"]))
    )
    return name == other and (root == other_root or not root or not other_root)


def from_command_line(
    arguments: list[str], content: dict[str, Any], mappings: Collection[str] = ()
) -> tuple[list[Layer], list[str]]:
    """What the command line says over lists, mappings and components of the recipe, as layers like any other; and the
    arguments that are left, which set single values.

    Args:
        arguments: of the command line.
        content: of the recipe's files.
        mappings: arguments that take any mapping, so that the parser knows no keys in them.
    """
    layers: list[Layer] = []
    left, number = [], 0
    while number < len(arguments):
        option, joined, text = arguments[number].partition("=")
        follows = arguments[number + 1 : number + 2]
        count = 1 if joined or not follows or follows[0].startswith("--") else 2
        text = text if joined else "".join(follows[: count - 1])
        said = _layered(option[2:], text, content, mappings) if option.startswith("--") and text else None
        if said is None:
            left += arguments[number : number + count]
        else:
            layers.append(Layer("the command line", said))
        number += count
    return layers, left


def _layered(key: str, text: str, content: dict[str, Any], mappings: Collection[str] = ()) -> dict[str, Any] | None:
    """``--key text`` as content, where it is over more than a single value."""
    parts = _parts(key)
    whole = [*parts[:-1], str(parts[-1]).removesuffix("+")]
    below = list(_down(content, whole))
    over = below[-1] if len(below) == len(whole) else None
    value = _value(text)
    if any(isinstance(part, int) for part in parts) or (len(parts) > 1 and parts[0] in mappings):
        return at_key(key, value)
    if isinstance(over, list | dict) and over and isinstance(value, list | dict):
        return at_key(key, value)
    if isinstance(over, dict) and "class_path" in over and isinstance(value, str | None) and not Path(text).is_file():
        return at_key(key, value and {"class_path": value})
    if parts[-1] == "class_path" and over is not None:
        return at_key(key, value)
    return None


def _down(content: Any, parts: list[Any]) -> Iterator[Any]:
    """The values on the way to a dotted key, as far as there are any."""
    for part in parts:
        if not isinstance(content, dict) or part not in content:
            return
        content = content[part]
        yield content


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def at_key(key: str, value: Any) -> dict[str, Any]:
    """``a.b.0.c`` and a value as content of a recipe."""
    for part in reversed(_parts(key)):
        value = {part: value}
    return value


def _parts(key: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in key.split(".")]
