"""Read, layer, check and save recipes.

A recipe is YAML for one verb, in layers (`layers` says how they merge). A verb declares what it accepts on a
jsonargparse parser; this file gives it the merged content. Its complaints are put into words by `recipe_errors`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from phi3kit import plugins
from phi3kit.errors import UserError
from phi3kit.layers import Layer, at_key, from_command_line, merge, read_layers
from phi3kit.recipe_errors import translate

__all__ = ["Declare", "Layer", "Recipe", "at_key", "class_paths", "merge", "read", "read_layers"]

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
    changes, rest = from_command_line(rest, merge(layers))
    layers += changes
    inline = ["--recipe", json.dumps(_with_full_paths(merge(layers)))] if layers else []
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
