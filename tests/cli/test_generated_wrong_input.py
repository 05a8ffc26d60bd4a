"""A thousand wrong recipes and command lines, drawn from a seed: one clear line each, no traceback, silence or hang.

What is wrong is derived from what the parser states: keys that no `--help` lists, values of another type, nulls where
none may stand, numbers out of the declared bounds, components and options that nothing offers, files that are no YAML.
"""

from __future__ import annotations

import copy
import random
import signal
import string
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from recipe_folders import FOLDERS, content, lacks_factors, need_plugin, steps

from phi3kit import UserError, bounds, recipe_components
from phi3kit import recipe as recipes
from phi3kit.cli import VERBS
from phi3kit.recipe_bounds import declared

pytestmark = pytest.mark.slow
DRAWN, SECONDS = 1000, 20
PLAIN = (int, float, bool)


def declare_of(verb: str) -> Callable[[Any], None]:
    name, *work = verb.split()
    return getattr(import_module(VERBS[name][0]), "_".join(["declare", *work]))


def right_recipes() -> list[dict[str, Any]]:
    """Every recipe that ships and is whole."""
    found = [content(file) for folder in FOLDERS for file in steps(folder) if not lacks_factors(content(file))]
    return [recipe for recipe in found if recipe["verb"] in ("fit", "prepare", "export")]


def places(recipe: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a value in a recipe."""
    if at:
        yield at
    inside = recipe.items() if isinstance(recipe, dict) else enumerate(recipe) if isinstance(recipe, list) else ()
    for key, value in inside:
        yield from places(value, (*at, key))


def value_at(recipe: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        recipe = recipe[key]
    return recipe


def with_value(recipe: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(recipe)
    value_at(made, at[:-1])[at[-1]] = value
    return made


def misspelt(word: str, draw: random.Random) -> str:
    at = draw.randrange(len(word))
    return (
        draw.choice([word[:at] + word[at + 1 :], word[:at] + draw.choice("qxz") + word[at:], f"{word}_{word}"]) or "q"
    )


def class_of(recipe: dict[str, Any], at: tuple[Any, ...]) -> tuple[Any, str] | None:
    """The class and the parameter of a value that is an option of a component."""
    if len(at) < 2 or at[-2] != "init_args":
        return None
    path = value_at(recipe, at[:-2])["class_path"]
    component = recipes.plugins.load().find(path)
    return (component.cls if component else recipe_components._class(path)), at[-1]


def annotation_of(recipe: dict[str, Any], at: tuple[Any, ...]) -> Any:
    found = class_of(recipe, at)
    if found is not None:
        return declared(found[0]).get(found[1])
    if at[:2] == ("net", "dims") and len(at) == 3:
        from phi3kit.records import Dims

        return declared(Dims).get(at[2])
    return None


def wrong_key(recipe: dict[str, Any], at: tuple[Any, ...], draw: random.Random) -> Any:
    above = value_at(recipe, at[:-1])
    if not isinstance(at[-1], str) or free_names(recipe, at):
        return None
    name = misspelt(at[-1], draw)
    if name in above or name.rstrip("+") in above:
        return None
    made = copy.deepcopy(recipe)
    value_at(made, at[:-1])[name] = value_at(made, at[:-1]).pop(at[-1])
    return made


def free_names(recipe: dict[str, Any], at: tuple[Any, ...]) -> bool:
    """Whether a place lies in a mapping whose keys are the user's own."""
    free = ("least", "most", "what", "init_scale", "parts_from", "rules", "weights", "questions")
    return any(key in free for key in at[:-1])


def wrong_type(recipe: dict[str, Any], at: tuple[Any, ...], draw: random.Random) -> Any:
    value = value_at(recipe, at)
    if free_names(recipe, at) or at[-1] in ("verb", "out"):
        return None
    if isinstance(value, bool) or (isinstance(value, int | float) and at[-1] not in ("devices", "betas")):
        return with_value(recipe, at, draw.choice(["many", [1, "b"], {"a": 1}, "1,5", float("nan")]))
    if isinstance(value, dict) and at[-1] in ("dims", "schedule", "init_args", "trainer", "net", "preparation"):
        return with_value(recipe, at, draw.choice(["text", 3, [1]]))
    return None


def wrong_null(recipe: dict[str, Any], at: tuple[Any, ...], draw: random.Random) -> Any:
    annotation = annotation_of(recipe, at)
    if annotation is None or type(None) in get_args(annotation) or value_at(recipe, at) is None:
        return None
    if not (annotation in PLAIN or list(bounds.of_parameter(annotation))):
        return None
    return with_value(recipe, at, None)


def out_of_bounds(recipe: dict[str, Any], at: tuple[Any, ...], draw: random.Random) -> Any:
    annotation = annotation_of(recipe, at)
    value = value_at(recipe, at)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    known = [bound for bound in bounds.of_parameter(annotation) if isinstance(bound, bounds.Bound)]
    outside = [-1, 0, -(10**9), 10**30, 5.5e300, -0.5]
    whole = isinstance(value, int)
    fitting = [n for n in outside if (not whole or isinstance(n, int)) and any(n not in bound for bound in known)]
    fitting += [10**30] if whole else []
    return with_value(recipe, at, draw.choice(fitting)) if fitting else None


def wrong_class(recipe: dict[str, Any], at: tuple[Any, ...], draw: random.Random) -> Any:
    if at[-1] != "class_path":
        return None
    name = str(value_at(recipe, at))
    return with_value(
        recipe, at, draw.choice([misspelt(name, draw), "acme.parts.Thing", "no.such", "", 3, None, [name]])
    )


def wrong_option(recipe: dict[str, Any], at: tuple[Any, ...], draw: random.Random) -> Any:
    if at[-1] != "init_args" or recipe_components.options(value_at(recipe, at[:-1])["class_path"]) is None:
        return None
    return with_value(
        recipe, (*at, "".join(draw.choices(string.ascii_lowercase, k=6)) + "_q"), draw.choice([1, "a", None])
    )


KINDS = [wrong_key, wrong_type, wrong_null, out_of_bounds, wrong_class, wrong_option]


def wrong_lines(recipe: dict[str, Any], draw: random.Random) -> list[str]:
    """An option that is not there, or with a value that it may not have."""
    return draw.choice(
        [
            ["--" + misspelt("minutes", draw), "3"],
            ["--minutes", "soon"],
            ["--out"],
            ["runs/x"],
            ["--minute", "3"],
            ["--recipe", "no/such.yaml"],
            ["--recipe", "."],
            ["--recipe"],
            ["--trainer.max_step", "3"],
            ["--seeed=1"],
            ["--minutes=nan"],
            *([["--net.attention.99.init_args.window", "3"]] if recipe["verb"] == "fit" else []),
            ["--" + "x" * 5000, "1"],
        ]
    )


TEXTS = [
    *("", "- 1\n", "3\n", "a: [1\n", "\tx: 1\n", "verb: fit\nverb: fit\n", "yes: 1\n", "verb: [fit]\n"),
    *("verb: {a: 1}\n", "base: 3\n", "base: [r.yaml]\n", "base: {a: 1}\n", "a: &a [*a]\n", "\0", "1.5: x\n"),
    *("a: !!python/object:os.x {}\n", "a: 2026-13-99x: 1\n", "? [1]\n: 2\n", "verb: fit\nnet: &n {dims: *n}\n"),
    *("%YAML 9.9\n---\na: 1\n", "a: 1\n---\nb: 2\n", "null: x\n", "a: *b\n", "a: !!int x\n", "a: !!binary '='\n"),
]


def draw_wrong(number: int, folder: Path, rights: list[dict[str, Any]]) -> tuple[str, str, list[str]]:
    """What was done, the verb, and the command line after it."""
    draw = random.Random(number)
    recipe = draw.choice(rights)
    file = folder / "r.yaml"
    sort = number % 10
    if sort == 0:
        text = draw.choice(TEXTS)
        file.write_text(text)
        return f"text {text!r}", "fit", ["--recipe", str(file)]
    if sort == 1:
        file.write_text(yaml.safe_dump(recipe))
        line = wrong_lines(recipe, draw)
        return f"line {line}", recipe["verb"], ["--recipe", str(file), *line]
    for _ in range(10_000):
        kind, at = draw.choice(KINDS), draw.choice(list(places(recipe)))
        made = kind(recipe, at, draw)
        if made is not None:
            file.write_text(yaml.safe_dump(made))
            said = f"{kind.__name__} {'.'.join(map(str, at))} {value_at(recipe, at)!r:.60}"
            return said, recipe["verb"], ["--recipe", str(file)]
    raise AssertionError("nothing can be made wrong")


def test_a_thousand_wrong_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for folder in FOLDERS:
        need_plugin(folder)
    monkeypatch.chdir(tmp_path)
    assert not recipes.plugins.load().faults  # imported before the clock runs
    rights, faults = right_recipes(), []

    def hang(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, hang)
    for number in range(DRAWN):
        done, verb, line = draw_wrong(number, tmp_path, rights)
        signal.alarm(SECONDS)
        try:
            recipes.read(verb, declare_of(verb), line)
        except UserError as error:
            if "\n" in str(error) or not str(error) or "Traceback" in str(error):
                faults.append(f"{number} {done}: not one line: {error!s:.200}")
        except TimeoutError:
            faults.append(f"{number} {done}: hung")
        except (Exception, SystemExit) as error:
            faults.append(f"{number} {done}: {type(error).__name__}: {str(error)[:160]}")
        else:
            faults.append(f"{number} {done}: accepted")
        finally:
            signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert not faults, f"{len(faults)} of {DRAWN}:\n" + "\n".join(faults)
