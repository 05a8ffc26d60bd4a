"""jsonargparse's complaints about a recipe, in one line: which file and key, got what, instead what."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, get_args

from jsonargparse import ArgumentParser

from phi3kit import plugins
from phi3kit.errors import nearest
from phi3kit.recipe_components import GIVEN_BY_THE_HOUSE

if TYPE_CHECKING:
    from phi3kit.layers import Layer


def translate(message: str, parser: ArgumentParser, layers: list[Layer]) -> str:
    """One line for the user out of jsonargparse's several."""
    key = _last(r'Parser key "([^"]+)"', message) or ""
    top = _first(r'Parser key "([^"]+)"', message) or ""
    for pattern, explain in _EXPLANATIONS:
        if match := re.search(pattern, message, re.DOTALL):
            text, clue = explain(match, key if key == top else f"{top} … {key}", parser)
            return f"{_file_of(clue, layers)}{text}"
    deepest = [line.strip() for line in message.splitlines() if line.strip()][-1]
    return f"{_file_of(top.rsplit('.', 1)[-1], layers)}{top}: {deepest}" if top else deepest


def _first(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return found[0] if found else None


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return found[-1] if found else None


def _file_of(clue: str, layers: list[Layer]) -> str:
    """``"FILE: "`` for the last layer that mentions the clue as a key or a value."""

    def mentions(content: Any) -> bool:
        if isinstance(content, dict):
            return clue in map(str, content) or any(mentions(value) for value in content.values())
        if isinstance(content, list):
            return any(mentions(value) for value in content)
        return str(content) == clue

    return next((f"{layer.name}: " for layer in reversed(layers) if clue and mentions(layer.content)), "")


def file_of_key(key: str, layers: list[Layer]) -> str:
    """``"FILE: "`` for the last layer that sets a dotted key."""

    def sets(content: Any, parts: list[str]) -> bool:
        if not parts:
            return True
        if isinstance(content, list):
            return parts[0].isdecimal() and int(parts[0]) < len(content) and sets(content[int(parts[0])], parts[1:])
        if not isinstance(content, dict):
            return False
        return any(str(name) == parts[0] and sets(inside, parts[1:]) for name, inside in content.items())

    return next((f"{layer.name}: " for layer in reversed(layers) if sets(layer.content, key.split("."))), "")


def _unknown_key(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    full = match["key"] if not match.groupdict().get("group") else f"{match['group']}.{match['key']}"
    start, part, siblings = _deepest(full, parser)
    return f"there is no key {start + part!r}{nearest(part, siblings - {'verb', 'recipe'})}", part


def _deepest(key: str, parser: ArgumentParser) -> tuple[str, str, set[str]]:
    """Where a dotted key leaves what the parser knows: what stands before, the first unknown part, and its siblings."""
    valid = {a.dest for a in parser._actions}
    known = ""
    for part in key.split("."):
        start = f"{known}." if known else ""
        siblings = {v.removeprefix(start).split(".")[0] for v in valid if v.startswith(start)}
        if part not in siblings:
            break
        known = start + part
    return start, part, siblings - {"help", "print_config", "print_shtab"}


def _unknown_option(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    path, option = match["path"], match["key"]
    module, _, name = path.rpartition(".")
    signature = inspect.signature(getattr(import_module(module), name).__init__)
    valid = [n for n in signature.parameters if n not in ("self", *GIVEN_BY_THE_HOUSE)]
    return f"{name} ({key}) has no option {option!r}{nearest(option, valid)}", option


def _unknown_class(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    given = re.search(r"class_path='([^']+)'", match.string)
    path = given[1] if given else match["name"]
    family = _family(key, parser)
    if family is None and "Subtypes:" in match.string:  # a component was only one of the possibilities
        return _wrong_type(match, key, parser)
    package, _, name = path.rpartition(".")
    if package and find_spec(package.split(".")[0]) is None:
        return f"{key}: there is no package {package.split('.')[0]!r} for {path}; is its plugin installed?", path
    if family is None and package and not package.startswith("phi3kit"):
        return f"{key}: {package} has no class {name!r}{nearest(name, _classes(package))}", path
    return f"{key}: {plugins.unknown_component(name, family)}", path


def _classes(package: str) -> list[str]:
    """Names of the public classes of a module."""
    try:
        space = vars(import_module(package))
    except ImportError:
        return []
    return [name for name, value in space.items() if inspect.isclass(value) and not name.startswith("_")]


def _wrong_family(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    name, family = match["path"].rpartition(".")[2], _family(key, parser)
    valid = f"; valid: {', '.join(c.name for c in plugins.load().of(family))}" if family else ""
    return f"{key}: {name} is not of the family {match['family']}{valid}", name


def _family(key: str, parser: ArgumentParser) -> type | None:
    """The family that a key of the parser takes components of."""
    from phi3kit.families import family_of

    hints = [getattr(action, "_typehint", None) for action in parser._actions if action.dest == key]
    for hint in hints:
        hints.extend(part for part in get_args(hint) if not isinstance(part, list))  # not a factory's parameters
        if inspect.isclass(hint) and (family := family_of(hint)):
            return family
    return None


def _not_a_group(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    return f"{key} must be a mapping of its options, got {match['value']!r}", match["value"]


def _wrong_type(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    deepest = match.string[match.string.rfind("Parser key") :]
    subtypes = re.search(r"Subtypes: \[(.*)\]", deepest)
    expected = re.findall(r"<class '([\w.]+)'>", subtypes[1] if subtypes else "")
    expected = expected or re.findall(r"Expected an? (?:<class ')?([\w.]+)", deepest)
    got = re.search(r"(?:Given|Got) value: (.*?)(?:\. Got value|\n|$)", deepest)
    value = got[1] if got else "?"
    wanted = " or ".join(dict.fromkeys("null" if e == "NoneType" else e for e in expected))
    if choices := re.findall(r"Literal\[(.*?)\]", deepest):
        wanted = f"one of {', '.join(dict.fromkeys(', '.join(choices).split(', ')))}"
    return f"{key} must be {wanted}, got {value!r}", key.rsplit(" ", 1)[-1].rsplit(".", 1)[-1]


def _required(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    missing = match["keys"].strip()
    given = re.search(r"class_path='([^']+)'", match.string)
    if not (given and key):
        return f"the recipe lacks {missing}", ""
    return f"{given[1].rpartition('.')[2]} ({key}) lacks {missing}", key.rpartition(".")[2]


def _unrecognized(match: re.Match[str], key: str, parser: ArgumentParser) -> tuple[str, str]:
    option = match["option"].split("=")[0].removeprefix("--")
    if not match["option"].startswith("-"):
        return f"{match['option']!r} belongs to no option; a recipe is given as --recipe FILE", ""
    start, part, siblings = _deepest(option, parser)
    return f"there is no option --{option}{nearest(part, siblings - {'recipe'}, start)}", ""


_Explain = Callable[[re.Match[str], str, ArgumentParser], tuple[str, str]]
_EXPLANATIONS: list[tuple[str, _Explain]] = [
    (r"Option '(?P<key>[^']+)' is not accepted.*?class_path='(?P<path>[^']+)'", _unknown_option),
    (r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'", _unknown_key),
    (r"Option '(?P<key>[^']+)' is not accepted", _unknown_key),
    (r"Expected a dot import path string: (?P<name>[^\s]+)", _unknown_class),
    (r"has no attribute '(?P<name>[^']+)'", _unknown_class),
    (r"No module named '(?P<name>[^']+)'", _unknown_class),
    (r"Expected '(?P<path>[^']+)' to be a subclass of <class '(?P<family>\w+)'>", _wrong_family),
    (r"Import path (?P<path>\S+) does not correspond to a subclass of (?P<family>\w+)", _wrong_family),
    (r"Unable to load config ['\"](?P<value>[^'\"]*)", _not_a_group),
    (r"the following arguments are required: (?P<keys>[^\n]*?)(?:\. Got value|\n|$)", _required),
    (r"unrecognized arguments: (?P<option>\S+)", _unrecognized),
    (r"Expected an? ", _wrong_type),
]
