"""Quantized parts of a net on disk, each in a safetensors file that says what it was made from.

Special here: a part that was read back costs no memory of its own: its integers and scales are the file's pages. The
file keeps torchao's tensors in pieces, and their other attributes (bits, group) as JSON in its header.
"""

from __future__ import annotations

import enum
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.model.tensor_file import TensorFile, read

KEY, ATTRIBUTES = "phi3kit_key", "phi3kit_attributes"
PIECE = ":"  # between a parameter's name and that of one of its pieces


def keep(part: nn.Module, file: Path, key: str) -> None:
    """Write a part's parameters and stored buffers; the file appears whole or not at all.

    Args:
        part: quantized, or not.
        file: where to.
        key: of everything it was made from.

    Raises:
        UserError: the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    attributes: dict[str, dict[str, Any]] = {}
    for name, value in part.state_dict().items():
        if pieces := getattr(value, "tensor_data_names", None):
            tensors |= {f"{name}{PIECE}{piece}": getattr(value, piece).contiguous() for piece in pieces}
            attributes[name] = {each: _plain(getattr(value, each)) for each in value.tensor_attribute_names}
        else:
            tensors[name] = value.contiguous()
    partial = file.with_suffix(".writing")
    try:
        save_file(tensors, partial, metadata={KEY: key, ATTRIBUTES: json.dumps(attributes)})
        os.replace(partial, file)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot keep {file}: {error}; free some space and export again") from error


def key_of(file: Path) -> str | None:
    """What a file's part was made from; None where there is no such file, or not a whole one."""
    try:
        return _about(read(file)).get(KEY) if file.is_file() else None
    except UserError:
        return None


def give_back(part: nn.Module, file: Path) -> TensorFile:
    """Make a file's tensors a part's own, which may be on the meta device. They are the file's pages."""
    stored = read(file)
    attributes = json.loads(_about(stored)[ATTRIBUTES])
    for name in part.state_dict():
        value = _quantized(stored, name, attributes[name]) if name in attributes else stored.tensor(name)
        owner, _, own = name.rpartition(".")
        module = part.get_submodule(owner)
        setattr(module, own, value if own in module._buffers else nn.Parameter(value, requires_grad=False))
    return stored


def _quantized(stored: TensorFile, name: str, attributes: dict[str, Any]) -> Tensor:
    from torchao.quantization import IntxUnpackedToInt8Tensor

    pieces = {piece: stored.tensor(f"{name}{PIECE}{piece}") for piece in IntxUnpackedToInt8Tensor.tensor_data_names}
    return IntxUnpackedToInt8Tensor(**pieces, **{each: _rich(value) for each, value in attributes.items()})


def _about(stored: TensorFile) -> dict[str, str]:
    return json.loads(stored.header).get("__metadata__", {})


def _plain(value: Any) -> Any:
    """An attribute as JSON has it."""
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _rich(value: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(value, str) and value.startswith("torch."):
        return getattr(torch, value.removeprefix("torch."))
    return tuple(value) if isinstance(value, list) else value
