"""A checkpoint folder as Hugging Face lays it out: read, and checked against its own config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phi3kit.checkpoints.copying import equal
from phi3kit.checkpoints.layouts import doubled, layout_of_config
from phi3kit.errors import UserError
from phi3kit.families import Layout, Part
from phi3kit.json_files import read_object
from phi3kit.model import Decoder
from phi3kit.model.load import build_net
from phi3kit.model.stored import Stored, open_stored
from phi3kit.model.tensor_file import NAMES

CONFIG = "config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class PublicFolder:
    """What is in a checkpoint folder.

    Args:
        path: the folder.
        config: its config.json.
        layout: what its architecture is read by.
        section: the ``net:`` of a recipe that builds its net.
        net: that net, without weights.
        parts: the tensors that the net uses.
        stored: all tensors.
        unused: names of those that the net does not use.
    """

    path: Path
    config: dict[str, Any]
    layout: Layout
    section: dict[str, Any]
    net: Decoder
    parts: list[Part]
    stored: Stored
    unused: list[str]


def read_public_folder(folder: Path) -> PublicFolder:
    """Read a checkpoint folder. Raises `UserError`, in one line, where it is not whole and sound."""
    config = read_config(folder)
    layout = layout_of_config(config)
    if config.get("quantization_config"):
        raise UserError(f"{folder / CONFIG} says the weights are quantized; convert the model they were made from")
    section = layout.net(config)
    net = build_net(section, "meta")
    stored = _weights(folder)
    parts = layout.parts(net)
    unused = _check(folder, layout, net, parts, stored)
    return PublicFolder(folder, config, layout, section, net, parts, stored, unused)


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} is no checkpoint folder: it has no {CONFIG}")
    return read_object(path)


def _weights(folder: Path) -> Stored:
    stored = open_stored(folder)
    if stored.files:
        return stored
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise UserError(
            f"{folder} has its weights in {pickled[0]}, a pickle, which could run any code when it is read; where you "
            f"trust {'each of these ' + str(len(pickled)) + ' files' if len(pickled) > 1 else 'it'}, convert it in "
            "Python: import torch; from safetensors.torch import save_file; "
            f"save_file({{k: v.clone() for k, v in torch.load({pickled[0]!r}, weights_only=True).items()}}, "
            f"{Path(pickled[0]).stem.replace('pytorch_', '') + '.safetensors'!r}, metadata={{'format': 'pt'}})"
        )
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if any(name.startswith("adapter") for name in others):
        raise UserError(f"{folder} has only an adapter, {others[0]}; merge it into its model's weights first")
    there = f", not {others[0]}" if others else ""
    raise UserError(f"{folder} has no weights; model.safetensors or its shards are expected{there}")


def _check(folder: Path, layout: Layout, net: Decoder, parts: list[Part], stored: Stored) -> list[str]:
    """Names of the tensors that the net does not use. Raises `UserError` where config.json and tensors differ."""
    forms, own = stored.forms, net.state_dict()
    missing = [part.theirs for part in parts if part.theirs not in forms]
    if missing:
        raise UserError(
            f"{folder}: {missing[0]} is missing, which {CONFIG} implies ({len(missing)} of {len(parts)} tensors are); "
            f"correct {CONFIG} or download the weights again"
        )
    for part in parts:
        wanted = tuple(own[part.ours][part.place].shape)
        if forms[part.theirs].shape != wanted:
            raise UserError(
                f"{folder}: {part.theirs} is {list(forms[part.theirs].shape)}, {CONFIG} implies {list(wanted)}; "
                f"correct {CONFIG} or download the weights again"
            )
    copies = doubled(layout, net)
    rest = [name for name in forms if name not in {part.theirs for part in parts} and name not in copies]
    unknown = [name for name in rest if not layout.unused(name)]
    if unknown:
        raise UserError(
            f"{folder}: {unknown[0]} has no place in the net that {CONFIG} describes ({len(unknown)} such tensors); "
            f"correct {CONFIG}, or convert with the layout that these weights have"
        )
    _check_types(folder, forms, parts)
    _check_copies(folder, copies, stored)
    return rest


def _check_types(folder: Path, forms: Mapping[str, Any], parts: list[Part]) -> None:
    first: dict[str, Part] = {}
    for part in parts:
        dtype, whole = forms[part.theirs].dtype, first.setdefault(part.ours, part).theirs
        if dtype not in FLOATS:
            raise UserError(f"{folder}: {part.theirs} is {NAMES[dtype]}; a quantized model cannot be converted")
        if dtype != forms[whole].dtype:
            raise UserError(
                f"{folder}: {part.theirs} is {NAMES[dtype]} and {whole} {NAMES[forms[whole].dtype]}, which are one "
                "tensor here; save them in one type"
            )


def _check_copies(folder: Path, copies: Mapping[str, str], stored: Stored) -> None:
    for name, original in copies.items():
        if name in stored.place and not equal(name, original, stored):
            raise UserError(
                f"{folder}: {name} differs from {original}, but in the net that {CONFIG} describes they are one; "
                f"correct {CONFIG} (tie_word_embeddings) or the weights"
            )
