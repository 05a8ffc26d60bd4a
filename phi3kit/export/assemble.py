"""The files of a bundle, and what ``bundle.json`` says about them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from phi3kit import __version__, bundle
from phi3kit.errors import UserError
from phi3kit.export.program import Program
from phi3kit.families import Tokenizer
from phi3kit.model import LongRoPE
from phi3kit.model.source import Source
from phi3kit.model.stored import weight_files
from phi3kit.text.device import device_tokenizer
from phi3kit.text.device_template import device_tokenizer_config, template
from phi3kit.text.template import stop_ids, stop_tokens

PREFIX = "phi4_"  # an iOS demo app, etLLM, chooses the Phi template by it, and exits on a prefix it does not know
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


def model_file(name: str) -> str:
    """File name of the `.pte`."""
    if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UserError(f"name {name!r} does not work as a file name; use letters, digits, - _ and .")
    return f"{PREFIX}{name}.pte"


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write the device's tokenizer.

    Raises:
        UserError: the disk is full, or a tokenizer no device reads.
    """
    contents = {TOKENIZER: device_tokenizer(tokenizer), TOKENIZER_CONFIG: device_tokenizer_config(tokenizer)}
    for file, content in contents.items():
        bundle.write(folder / file, bundle.as_json(content))


def describe(
    name: str,
    program: Program,
    tokenizer: Tokenizer,
    *,
    sizes: Mapping[str, int],
    quantizer: Mapping[str, Any] | None,
    backend: str,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of bundle.json, without the files.

    Args:
        name: the model's.
        program: what was lowered.
        tokenizer: the model's own.
        sizes: bytes of the program and of the float32 weights.
        quantizer: how it describes itself; None: none was used.
        backend: the class that lowered it.
        origin: the recipes and the weights' sha256: how to make this bundle again.
    """
    position = program.net.position
    return {
        "name": name,
        "model": model_file(name),
        "tokenizer": TOKENIZER,
        "tokenizer_config": TOKENIZER_CONFIG,
        "template": template(tokenizer),
        "stop": {"tokens": stop_tokens(tokenizer), "ids": stop_ids(tokenizer)},
        "context": program.context,
        "cache": program.cache.kind,
        "remembers": program.cache.context,
        "vocab_size": program.net.dims.vocab_size,
        "longrope": position.use if isinstance(position, LongRoPE) else None,
        "bytes": dict(sizes),
        "quantizer": quantizer,
        "backend": backend,
        "versions": versions(),
        "origin": dict(origin),
    }


def origin(source: Source, recipe: str) -> dict[str, str]:
    """How to make a bundle again: the weights and their sha256, the export's recipe and the net's own."""
    own = None if source.path is None else source.path / "config.yaml"
    return {
        "run": source.says,
        "weights_sha256": hash_of_files(source.files),
        "export": recipe,
        "net": own.read_text() if own and own.is_file() else yaml.safe_dump({"net": source.section}, sort_keys=False),
    }


def weights_hash(run: Path) -> str:
    """sha256 of a run's weights; of several files: of their sha256s, one after the other."""
    return hash_of_files(weight_files(run))


def hash_of_files(files: Sequence[Path]) -> str:
    """sha256 of a file; of several: of their sha256s, one after the other; of none: "" (random weights)."""
    hashes = [bundle.sha256(path) for path in files]
    if len(hashes) < 2:
        return "".join(hashes)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of what the program was made with; a runtime must be at least as new as this executorch."""
    names = ("executorch", "torch", "torchao", "pytorch-tokenizers")
    return {"phi3kit": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}
