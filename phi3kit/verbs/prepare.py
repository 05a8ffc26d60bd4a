"""``phi3kit prepare``: documents -> filtered -> tokens, chats and preferences, in one folder."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.verbs.data_prints import fingerprint
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


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
    _check_outside(out, recipe.config.preparation)
    preparation = recipe.instantiate().preparation
    if recipe.config.what_if:
        print(preparation.what_if(out, Progress()))
        return 0
    before = fingerprint(out)
    preparation.run(out, Progress())
    if before and fingerprint(out) != before:
        print(f"{out} held other data before; runs that were trained on it say so, and do not go on with this")
    recipe.save(out / "config.yaml")
    _say_size(out, recipe.config.preparation.vocab_size)
    if summary:
        show(json.loads((out / "report.json").read_text()))
    return 0


def _check_outside(out: Path, preparation: Namespace) -> None:
    """Refuse to write into a folder that is read: the next time the output would be input."""
    readers = [*(preparation.readers or ()), *(source.reader for source in preparation.sources or ())]
    for reader in readers:
        path = (reader.get("init_args") or {}).get("path")
        if not isinstance(path, str):
            continue
        plain = itertools.takewhile(lambda part: "*" not in part, Path(path).parts)
        folder = Path(preparation.folder or ".", *plain).resolve()
        if folder.is_dir() and out.resolve().is_relative_to(folder):
            raise UserError(f"out {out} lies in {folder}, which is read; give another --out, or a narrower path")


def _say_size(out: Path, asked: int | None) -> None:
    """One line where too little text made a smaller tokenizer than was asked for."""
    from phi3kit.text import load_tokenizer

    if asked is not None and (made := load_tokenizer(out / "tokenizer").vocab_size) < asked:
        print(f"the tokenizer has {made:,} of {asked:,} ids: the text has no more; net.dims.vocab_size may be {made}")
