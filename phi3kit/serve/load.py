"""A path -> what talks: a training run's folder, or a bundle's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from phi3kit import bundle
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model.engine import Engine, NetEngine
from phi3kit.serve.bundle_engine import BundleEngine
from phi3kit.text import load_tokenizer
from phi3kit.text.device_template import tokenizer_of_bundle


def load(path: Path, on_rebuild: Callable[[int], None] | None = None) -> tuple[Engine, Tokenizer]:
    """The engine and the tokenizer of a run folder or a bundle folder.

    Args:
        path: the folder.
        on_rebuild: hears of a run's cache being rebuilt (see `NetEngine`); a bundle's never is.

    Raises:
        UserError: neither of the two, or damaged.
    """
    if not path.is_dir():
        raise UserError(f"there is no folder {path}; give a run or a bundle")
    if bundle.is_bundle(path):
        found = bundle.read(path)
        return BundleEngine(found.model), tokenizer_of_bundle(found.about, path)
    from phi3kit.model.load import check_run, load_run

    if (path / "config.yaml").is_file():
        return NetEngine(load_run(path), on_rebuild), load_tokenizer(path / "tokenizer")
    if (path / "config.json").is_file():
        check_run(path)
    raise UserError(f"{path} is neither a run (no config.yaml) nor a bundle (no {bundle.ABOUT})")
