"""A path -> what talks: a training run's folder, or a bundle's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from phi3kit import bundle
from phi3kit.errors import UserError, nearest
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
    if not path.is_dir() or not (bundle.is_bundle(path) or (path / "config.yaml").is_file()):
        raise UserError(f"{path} is neither a run nor a bundle{_instead(path)}")
    if bundle.is_bundle(path):
        found = bundle.read(path)
        return BundleEngine(found.model), tokenizer_of_bundle(found.about, path)
    from phi3kit.model.load import load_run

    return NetEngine(load_run(path), on_rebuild), load_tokenizer(path / "tokenizer")


def _instead(path: Path) -> str:
    """What a path is that is neither, and what to do with it."""
    if path.is_file():
        if path.suffix in (".yaml", ".yml"):
            return ": it is a recipe; train with `phi3kit fit --recipe`, and give the folder it writes (`out`)"
        if bundle.is_bundle(path.parent) or (path.parent / "config.yaml").is_file():
            return f": it is a file of one; give the folder, {path.parent}"
        return ": it is a file; give the folder of a run or a bundle"
    if not path.is_dir():
        return f": there is no folder {path}{_near(path)}"
    if (path / "adapter_config.json").is_file():
        return ": it is an adapter (LoRA); merge it into its model, then `phi3kit convert` the result"
    if (path / "config.json").is_file():
        return f": it is a public checkpoint; make a run of it: phi3kit convert {path} runs/{path.resolve().name}"
    if (path / "manifest.json").is_file():
        return ": it is prepared data; train on it with `phi3kit fit`, and give the run"
    if inside := sorted(p.parent.name for name in ("config.yaml", bundle.ABOUT) for p in path.glob(f"*/{name}")):
        return f", but there are some in it: {', '.join(inside[:10])}"
    if any(path.glob("*.yaml")):
        return ": it holds recipes; `phi3kit run` works through them, and says which run they made"
    return f" (it has no config.yaml and no {bundle.ABOUT})"


def _near(path: Path) -> str:
    """A folder of a similar name, or how to get a model of the hub, which such a name may mean."""
    beside = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    if close := nearest(path.name, beside) if beside else "":
        return close if "did you mean" in close else ""
    hub = len(path.parts) == 2 and not path.parent.exists()
    return (
        "; a model of the Hugging Face hub is downloaded first, then `phi3kit convert` makes a run of it" if hub else ""
    )
