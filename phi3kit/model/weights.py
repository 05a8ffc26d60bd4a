"""Hugging Face names <-> ours, and safetensors on disk.

Ours are the field's names without the ``model.`` prefix that transformers' causal-LM wrapper adds.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.model.decoder import Decoder

WEIGHTS = "model.safetensors"


def to_hugging_face(name: str) -> str:
    """``layers.0.mlp.down_proj.weight`` -> ``model.layers.0.mlp.down_proj.weight``; the head stays."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def from_hugging_face(name: str) -> str:
    """The inverse of `to_hugging_face`."""
    return name.removeprefix("model.")


def hugging_face_state(net: Decoder) -> dict[str, Tensor]:
    """The net's parameters under Hugging Face names; a tied head is left out, as there."""
    return {
        to_hugging_face(name): tensor.detach().contiguous()
        for name, tensor in net.state_dict().items()
        if not (net.tied and name == "lm_head.weight")
    }


def save(net: Decoder, folder: Path) -> Path:
    """Write ``model.safetensors``; the file appears whole or not at all."""
    target = folder / WEIGHTS
    partial = target.with_suffix(".partial")
    try:
        save_file(hugging_face_state(net), partial, metadata={"format": "pt"})
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot save the weights to {target}: {error}; free some space and try again") from error
    return target


def load_into(net: Decoder, folder: Path) -> None:
    """Read ``model.safetensors`` into a net, strictly: every name and shape must match."""
    source = folder / WEIGHTS
    if not source.is_file():
        raise UserError(f"no weights at {source}; is {folder} a finished run?")
    try:
        state = {from_hugging_face(name): tensor for name, tensor in load_file(source).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{source} is damaged ({error}); train that phase again or restore the file") from error
    if net.tied and "embed_tokens.weight" in state:
        state.setdefault("lm_head.weight", state["embed_tokens.weight"])
    own = net.state_dict()
    missing, unexpected = own.keys() - state.keys(), state.keys() - own.keys()
    if missing or unexpected:
        raise UserError(
            f"{source} holds another net: missing {sorted(missing)[:3]}, unexpected {sorted(unexpected)[:3]}; "
            "the recipe's net must be the one the weights were trained with"
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise UserError(f"{source}: {name} is {list(tensor.shape)}, the recipe's net wants {list(own[name].shape)}")
    net.load_state_dict(state)
