"""Read, layer, check and save recipes.

A recipe is YAML for one verb, in layers (`layers` says how they merge). A verb declares what it accepts on a
jsonargparse parser; this file gives it the merged content. Its complaints are put into words by `recipe_errors`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from phi3kit import plugins
from phi3kit.errors import UserError, nearest
from phi3kit.layers import Layer, at_key, from_command_line, merge, read_layers
from phi3kit.out_folder import check_out
from phi3kit.recipe_bounds import OutOfBounds, check
from phi3kit.recipe_components import check_components, check_options
from phi3kit.recipe_errors import file_of_key, translate
from phi3kit.recipe_file import with_home

__all__ = ["Declare", "Layer", "Recipe", "at_key", "class_paths", "merge", "read", "read_layers"]

RECIPE_VERBS = ("score fit", "prepare", "fit", "study", "export")  # what a recipe's `verb:` may say
Declare = Callable[[ArgumentParser], None]


class Recipe:
    """A checked recipe: `config` is plain values, `instantiate()` makes the objects."""

    def __init__(self, parser: ArgumentParser, config: Namespace) -> None:
        self._parser = parser
        self.config = config

    @property
    def out(self) -> Path:
        """Where the verb writes."""
        if not self.config.get("out"):
            raise UserError("the recipe does not say where to write; add `out: FOLDER` or --out FOLDER")
        return check_out(Path(self.config.out))

    def instantiate(self) -> Namespace:
        """Build every object of the recipe, in the parser's order. Raises `UserError` as a component does."""
        try:
            return self._parser.instantiate(self.config)
        except ValueError as error:
            if isinstance(error.__cause__, UserError):  # jsonargparse wraps it where the field may be null
                raise error.__cause__ from error
            raise

    def text(self) -> str:
        """The whole recipe, every default included, as YAML that a parser of the same verb accepts."""
        return self._parser.dump(self.config, skip_none=False)

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe's content: two recipes with the same one ask for the same work."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the recipe with a header that says which code it was read by."""
        path.write_text("\n".join([*self.header(), self.text()]))

    def header(self) -> list[str]:
        """Comment lines: versions, and the distribution each named component came from."""
        import torch

        from phi3kit import __version__

        used = [plugins.load().find(path) for path in class_paths(self.config.as_dict())]
        sources = sorted({f"{c.name} ({c.distribution} {c.version})" for c in used if c})
        return [
            f"# phi3kit {__version__}, torch {torch.__version__}; repeat with: phi3kit {self.config.verb} "
            "--recipe THIS_FILE --out NEW_FOLDER",
            f"# components: {', '.join(sources) or 'none'}",
        ]


def read(verb: str, declare: Declare, arguments: list[str], description: str = "", command: str = "") -> Recipe:
    """Parse a verb's command line and recipes.

    Args:
        verb: the verb that will run; a recipe that names another one is refused.
        declare: adds the verb's arguments to the parser.
        arguments: the command line after the verb.
        description: what ``--help`` says about the verb.
        command: the verb that was typed, where it reads another verb's recipes (`validate` reads `fit`'s).

    Raises:
        UserError: one line: what is wrong, where, and the nearest valid name.
    """
    paths, rest = _split([with_home(argument) for argument in arguments])
    _check_there(command or verb, paths, rest)
    layers = [layer for path in paths for layer in read_layers(path)]
    plugins.load()
    plugins.warn_of_faults()
    parser = _parser(command or verb, declare, description)
    for layer in layers:
        _check_verb(layer, verb, command or verb)
        for path in class_paths(layer.content):
            if plugin := plugins.missing_plugin(path, _beginning(layer)):
                raise UserError(f"{layer.name}: {plugin}")
        check_components(layer.content, layer.name)
    for layer in layers:
        for key in parser.classes:
            if key in layer.content and not isinstance(value := layer.content[key], dict):
                raise UserError(f"{layer.name}: {key} must be a mapping of its options, got {value!r}")
    changes, rest = from_command_line(rest, merge(layers), _mappings(parser))
    layers += changes
    check_options(rest, merge(layers))
    if unknown := _empty_and_unknown(merge(layers), [action.dest for action in parser._actions]):
        where = file_of_key(unknown, layers)
        raise UserError(f"{where}there is no key {unknown!r}, which is left empty; misspelt?")
    inline = ["--recipe", json.dumps(_with_full_paths(merge(layers)))] if layers else []
    try:
        config = parser.parse_args([*inline, *rest])
        check(parser, config, parser.classes)
    except ArgumentError as error:
        raise UserError(translate(str(error), parser, layers)) from error
    except OutOfBounds as error:
        raise UserError(f"{file_of_key(error.key, layers)}{error}") from error
    config.pop("recipe", None)
    config["verb"] = verb
    return Recipe(parser, config)


def _mappings(parser: ArgumentParser) -> list[str]:
    """The arguments that take a mapping with whatever keys."""
    hints = ((action.dest, getattr(action, "_typehint", None)) for action in parser._actions)
    return [
        dest
        for dest, hint in hints
        if any(part is dict or get_origin(part) is dict for part in (hint, *get_args(hint)))
    ]


def _empty_and_unknown(content: dict[str, Any], known: list[str], at: str = "") -> str:
    """The first key with an empty mapping that no argument has, which jsonargparse passes over."""
    for name, value in content.items():
        key = f"{at}{name}"
        inside = any(dest.startswith(f"{key}.") for dest in known)
        if value == {} and not inside and key not in known:
            return key
        if inside and isinstance(value, dict) and (found := _empty_and_unknown(value, known, f"{key}.")):
            return found
    return ""


class _Parser(ArgumentParser):
    """Knows whose arguments its groups are, for the bounds that they declare."""

    def __init__(self, **options: Any) -> None:
        self.classes: dict[str, Any] = {}
        super().__init__(**options)

    def add_class_arguments(self, theclass: Any, nested_key: str | None = None, *args: Any, **options: Any) -> Any:
        if nested_key is not None:
            self.classes[nested_key] = theclass
        return super().add_class_arguments(theclass, nested_key, *args, **options)


def _parser(verb: str, declare: Declare, description: str) -> _Parser:
    parser = _Parser(
        prog=f"phi3kit {verb}",
        usage=f"phi3kit {verb} --recipe FILE [--recipe FILE ...] [--key.of.recipe VALUE ...]",
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", action="config", help="recipe file; repeat it to layer several")
    parser.add_argument("--verb", type=str | None, default=None, help="which verb the recipe is for")
    parser.add_argument("--out", type=str | None, default=None, help="folder to write")
    parser.add_argument(
        "--minutes", type=float | None, default=None, help="about how long it takes, for `phi3kit run`'s estimate"
    )
    declare(parser)
    return parser


def _check_there(typed: str, paths: list[str], rest: list[str]) -> None:
    """Refuse a command line without a recipe, or with one that does not say ``--recipe``."""
    if any(option in ("-h", "--help") for option in rest) or any(".help" in option for option in rest):
        return
    if rest and not rest[0].startswith("-"):
        folder, file = Path(rest[0]), Path(rest[0]) / "config.yaml"
        found = file if file.is_file() else folder
        raise UserError(f"{rest[0]!r} is no option; did you mean `phi3kit {typed} --recipe {found}`?")
    if not paths and not rest:
        raise UserError(f"phi3kit {typed} needs a recipe: give --recipe FILE")


def _check_verb(layer: Layer, verb: str, typed: str) -> None:
    said = layer.content.get("verb", verb)
    if said == verb or said is None:
        return
    if said not in RECIPE_VERBS:
        raise UserError(f"{layer.name} says `verb: {said}`, which no recipe can{nearest(str(said), RECIPE_VERBS)}")
    takes = f"; `phi3kit {typed}` takes recipes of `phi3kit {verb}`" if typed != verb else ""
    raise UserError(f"{layer.name} is a recipe for `phi3kit {said}`, not `phi3kit {verb}`{takes}")


def _beginning(layer: Layer) -> str:
    """A file's first lines, where a run's config.yaml names the distribution of each component."""
    file = Path(layer.name)
    return file.read_text(encoding="utf-8", errors="replace")[:4000] if file.is_file() else ""


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """(recipe files, everything else)."""
    paths, rest, it = [], [], iter(arguments)
    for argument in it:
        if argument == "--recipe":
            paths.append(next(it, ""))
        elif argument.startswith("--recipe="):
            paths.append(argument.removeprefix("--recipe="))
        else:
            rest.append(argument)
    return paths, rest


def class_paths(content: Any) -> Iterator[str]:
    """Every ``class_path`` inside, in order."""
    if isinstance(content, dict):
        if isinstance(content.get("class_path"), str):
            yield content["class_path"]
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from class_paths(value)


def _with_full_paths(content: Any) -> Any:
    """Short component names become full ones, so that only what the registry accepted is found."""
    if isinstance(content, list):
        return [_with_full_paths(value) for value in content]
    if not isinstance(content, dict):
        return content
    done = {key: _with_full_paths(value) for key, value in content.items()}
    name = done.get("class_path")
    if isinstance(name, str) and (component := plugins.load().find(name)):
        done["class_path"] = component.path
    return done
