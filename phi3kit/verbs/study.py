"""``phi3kit study``: the same recipe with several arms and seeds, trained, measured and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from phi3kit import recipe as recipes
from phi3kit.errors import UserError, nearest
from phi3kit.verbs.alone import alone
from phi3kit.verbs.run import WRITING_VERBS, call
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def declare(parser: ArgumentParser) -> None:
    """The verb's one key: `study`."""
    from phi3kit.evaluation import Study

    parser.add_class_arguments(Study, "study", fail_untyped=True)


def main(arguments: list[str], *, summary: bool = True) -> int:
    """Run the verb; `phi3kit run` prints the summary itself, of all steps."""
    recipe = recipes.read("study", declare, arguments, __doc__ or "")
    out = recipe.out
    with alone(out):
        report = recipe.instantiate().study.run(out, command)
        recipe.save(out / "config.yaml")
    if summary:
        show(report | {"closing": [f"tables: {out / 'results.md'}; plot: {out / 'plot.svg'}"]})
    return 0


def command(verb: str, recipe: Path) -> None:
    """Run a cell's verb in this process, where it may."""
    cells_of = [known for known in WRITING_VERBS if known != "study"]
    if verb not in cells_of:
        raise UserError(f"{recipe}: an arm runs {', '.join(cells_of)}, not {verb!r}{nearest(verb, cells_of)}")
    call(verb, recipe)
