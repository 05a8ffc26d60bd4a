"""``phi3kit prepare``: documents -> filtered -> tokens, chats and preferences, in one folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from phi3kit import recipe as recipes
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def declare(parser: ArgumentParser) -> None:
    """The verb's one key: `preparation`."""
    from phi3kit.corpus import Preparation

    parser.add_class_arguments(Preparation, "preparation", fail_untyped=True)


def main(arguments: list[str], *, summary: bool = True) -> int:
    """Run the verb; `phi3kit run` prints the summary itself, of all steps."""
    from phi3kit.corpus import Progress

    recipe = recipes.read("prepare", declare, arguments, __doc__ or "")
    out = recipe.out
    recipe.instantiate().preparation.run(out, Progress())
    recipe.save(out / "config.yaml")
    if summary:
        show(json.loads((out / "report.json").read_text()))
    return 0
