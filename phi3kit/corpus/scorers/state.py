"""What a fitted scorer is on disk: its options as JSON, its numbers as safetensors, a hash over both.

No pickles: a scorer folder from a stranger is data, and reading it runs none of the stranger's code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

OPTIONS, NUMBERS = "scorer.json", "weights.safetensors"


def content_version(name: str, options: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """Hash of a scorer's class name, its options and its numbers; 16 hexadecimal digits."""
    digest = sha256(json.dumps([name, dict(options)], sort_keys=True).encode())
    for key, array in sorted((arrays or {}).items()):
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def write_state(folder: Path, options: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write options and numbers into an existing folder."""
    (folder / OPTIONS).write_text(json.dumps(dict(options), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if arrays:
        from safetensors.numpy import save

        (folder / NUMBERS).write_bytes(save(dict(arrays)))


def read_options(folder: Path) -> dict[str, Any]:
    """The options `write_state` wrote. Raises `UserError` naming the file."""
    file = folder / OPTIONS
    try:
        options = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} holds no scorer: {error.strerror} ({OPTIONS})") from error
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not isinstance(options, dict):
        raise UserError(f"{file} is damaged: a mapping is expected, got {type(options).__name__}")
    return options


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The numbers `write_state` wrote. Raises `UserError` naming the file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / NUMBERS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / NUMBERS} is not readable as safetensors: {error}") from error
