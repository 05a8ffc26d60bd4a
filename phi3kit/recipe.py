"""Read, layer, check and save recipes.

A recipe is YAML for one verb. Layers, later ones winning key by key: the files named by ``base:`` (relative
to the file that says so), the ``--recipe`` files in order, then ``--key.of.recipe value`` on the command
line. A verb declares what it accepts on a jsonargparse parser; this file does the rest. Its complaints are
put into words by `recipe_errors`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from phi3kit import plugins
from phi3kit.errors import UserError, nearest
from phi3kit.recipe_errors import translate

Declare = Callable[[ArgumentParser], None]


@dataclass(frozen=True)
class Layer:
    """One YAML file, or the command line."""

    name: str
    content: dict[str, Any]


class Recipe:
    """A checked recipe: `config` is plain values, `instantiate()` makes the objects."""

    def __init__(self, parser: ArgumentParser, config: Namespace) -> None:
        self._parser = parser
        self.config = config

    @property
    def out(self) -> Path:
        """Where the verb writes."""
        if not self.config.get("out"):
            raise UserError("the recipe says not where to write; add `out: FOLDER` or --out FOLDER")
        return Path(self.config.out)

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
    paths, rest = _split(arguments)
    layers = [layer for path in paths for layer in read_layers(path)]
    plugins.load()
    plugins.warn_of_faults()
    parser = _parser(command or verb, declare, description)
    for layer in layers:
        if layer.content.get("verb", verb) != verb:
            raise UserError(f"{layer.name} is a recipe for `phi3kit {layer.content['verb']}`, not `phi3kit {verb}`")
    contents = [_over_those_before(layers[: number + 1]) for number in range(len(layers))]
    inline = [part for content in contents for part in ("--recipe", json.dumps(_with_full_paths(content)))]
    try:
        config = parser.parse_args([*inline, *rest])
    except ArgumentError as error:
        raise UserError(translate(str(error), parser, layers)) from error
    config.pop("recipe", None)
    config["verb"] = verb
    return Recipe(parser, config)


def _parser(verb: str, declare: Declare, description: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"phi3kit {verb}",
        usage=f"phi3kit {verb} --recipe FILE [--recipe FILE ...] [--key.of.recipe VALUE ...]",
        description=description,
        exit_on_error=False,
    )
    parser.add_argument("--recipe", action="config", help="recipe file; repeat it to layer several")
    parser.add_argument("--verb", type=str | None, default=None, help="which verb the recipe is for")
    parser.add_argument("--out", type=str | None, default=None, help="folder to write")
    parser.add_argument(
        "--minutes", type=float | None, default=None, help="about how long it takes, for `phi3kit run`'s estimate"
    )
    declare(parser)
    return parser


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


def read_layers(path: str | Path, below: tuple[Path, ...] = ()) -> list[Layer]:
    """A recipe file and, before it, the files its ``base:`` names."""
    file = Path(path)
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else Path()
        raise UserError(f"there is no recipe {str(path)!r}{_nearest_file(file, folder)}")
    if file.resolve() in below:
        raise UserError(f"{file}: its `base:` leads back to itself")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        raise UserError(f"{file}{line} is not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a recipe: a mapping of keys is expected, got {type(content).__name__}")
    bases = content.pop("base", None) or []
    layers = [
        layer
        for base in ([bases] if isinstance(bases, str) else bases)
        for layer in read_layers(file.parent / base, (*below, file.resolve()))
    ]
    return [*layers, Layer(str(file), content)]


def _nearest_file(file: Path, folder: Path) -> str:
    names = [str(p.relative_to(folder)) for p in folder.glob("*.yaml")]
    return nearest(file.name, names) if names else ""


def _over_those_before(layers: list[Layer]) -> dict[str, Any]:
    """The last layer's content, its ``net:`` with what the others say inside it.

    jsonargparse replaces a mapping whose keys it does not know, as an export's is, as a whole.
    """
    last = layers[-1].content
    return {**last, "net": merge(layers)["net"]} if isinstance(last.get("net"), dict) else last


def merge(layers: list[Layer]) -> dict[str, Any]:
    """The layers' content, key by key; a changed class_path drops the arguments of the class before it."""

    def over(low: Any, high: Any) -> Any:
        if not (isinstance(low, dict) and isinstance(high, dict)):
            return high
        if "class_path" in high and high["class_path"] != low.get("class_path"):
            return high
        return {**low, **{key: over(low.get(key), value) for key, value in high.items()}}

    merged: dict[str, Any] = {}
    for layer in layers:
        merged = over(merged, layer.content)
    return merged


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
