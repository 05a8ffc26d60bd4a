"""``phi3kit prepare``: documents -> filtered -> tokens, chats and preferences, in one folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from phi3kit import recipe as recipes
from phi3kit.verbs.data_prints import fingerprint
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def declare(parser: ArgumentParser) -> None:
    """The verb's keys: `preparation`, and whether only to ask what would be."""
    from phi3kit.corpus import Preparation

    parser.add_class_arguments(Preparation, "preparation", fail_untyped=True)
    parser.add_argument("--what_if", type=bool, default=False, help="only say what each threshold would leave")


def main(arguments: list[str], *, summary: bool = True) -> int:
    """Run the verb; `phi3kit run` prints the summary itself, of all steps."""
    from phi3kit.corpus import Progress

    recipe = recipes.read("prepare", declare, arguments, __doc__ or "")
    out = recipe.out
    preparation = recipe.instantiate().preparation
    if recipe.config.what_if:
        print(preparation.what_if(out, Progress()))
        return 0
    before = fingerprint(out)
    preparation.run(out, Progress())
    if before and fingerprint(out) != before:
        print(f"{out} held other data before; runs that were trained on it say so, and do not go on with this")
    recipe.save(out / "config.yaml")
    if summary:
        show(json.loads((out / "report.json").read_text()))
    return 0
