"""Hugging Face names <-> ours, and safetensors on disk.

Ours are the field's names without the ``model.`` prefix that transformers' causal-LM wrapper adds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.model.decoder import Decoder
from phi3kit.model.finite import check_finite
from phi3kit.model.stored import INDEX, WEIGHTS, Stored, open_stored

VISION = "vision_embed_tokens."


def to_hugging_face(name: str) -> str:
    """``layers.0.mlp.down_proj.weight`` -> ``model.layers.0.mlp.down_proj.weight``; the head stays."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def from_hugging_face(name: str) -> str:
    """The inverse of `to_hugging_face`."""
    return name.removeprefix("model.")


def hugging_face_state(net: Decoder) -> dict[str, Tensor]:
    """The net's parameters under Hugging Face names; a tied head is left out, as there."""
    return dict(_gathered(net))


def _gathered(net: Decoder, widen: Callable[[str], Tensor | None] | None = None) -> Iterator[tuple[str, Tensor]]:
    """One parameter after another, whole."""
    for name, tensor in net.state_dict().items():
        if not (net.tied and name == "lm_head.weight"):
            wide = widen(name) if widen else None
            yield to_hugging_face(name), whole(tensor.detach() if wide is None else wide).contiguous()


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered from all devices, which all must ask for it; any other as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What this device holds of a tensor: all of it, but for a sharded one."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def save(net: Decoder, folder: Path, first: bool = True, widen: Callable[[str], Tensor | None] | None = None) -> Path:
    """Write ``model.safetensors``; the file appears whole or not at all.

    Args:
        net: may be sharded; then every device calls this.
        folder: where to.
        first: this process is the one of several that writes.
        widen: a parameter by its name, where it is known more precisely than the net has it.
    """
    target = folder / WEIGHTS
    partial = target.with_suffix(".partial")
    if not first:
        for _ in _gathered(net, widen):  # takes part, keeps nothing
            pass
        return target
    state = dict(_gathered(net, widen))
    try:
        save_file(state, partial, metadata={"format": "pt"})
        readable(partial)
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot save the weights to {target}: {error}; free some space and try again") from error
    return target


def readable(file: Path) -> None:
    """Give a file that safetensors wrote, for its owner alone, the mode that any new file has."""
    mask = os.umask(0o077)
    os.umask(mask)
    file.chmod(0o666 & ~mask)


def load_into(net: Decoder, folder: Path) -> None:
    """Copy a run's weights into a net, strictly: every name and shape must match. One tensor at a time is read.

    The run of a net without vision fills all but the vision of a net with it, which stays as it was built.
    """
    own, stored = net.state_dict(), fitting(net, folder, adding_vision=True)
    with torch.no_grad():
        for name, tensor in _own_tensors(net, stored):
            check_finite(tensor, name, folder)
            own[name].copy_(tensor)
            stored.forget()


def load_part(net: Decoder, prefix: str, folder: Path) -> None:
    """Copy the weights of one part of a net from a folder of safetensors that names them without the prefix.

    Every parameter of that part must be there, in the same shape; what else the folder holds (the text half of a
    public CLIP) is left alone.

    Args:
        net: what to fill.
        prefix: how the part's names begin, e.g. "vision_embed_tokens.img_processor".
        folder: model.safetensors, or shards of it.

    Raises:
        UserError: the net has no such part, the folder no weights, or not all of them, or in another shape.
    """
    part = {name: tensor for name, tensor in net.state_dict().items() if name.startswith(f"{prefix}.")}
    if not part:
        raise UserError(f"the net has no part {prefix!r}; names begin with {', '.join(_beginnings(net))}")
    stored = open_stored(folder)
    if not stored.files:
        raise UserError(f"no weights at {folder / WEIGHTS} for {prefix}; give a folder with {WEIGHTS}")
    for name, tensor in part.items():
        theirs = name.removeprefix(f"{prefix}.")
        if theirs not in stored.place:
            raise UserError(f"{folder} does not hold {prefix}: it lacks {theirs}")
        if stored.forms[theirs].shape != tuple(tensor.shape):
            raise UserError(f"{folder}: {theirs} is {list(stored.forms[theirs].shape)}, {name} is {list(tensor.shape)}")
    with torch.no_grad():
        for name, tensor in part.items():
            found = stored.tensor(name.removeprefix(f"{prefix}."))
            check_finite(found, name, folder)
            tensor.copy_(found)
            stored.forget()


def _beginnings(net: Decoder) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in net.state_dict()))


def assign_to(net: Decoder, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Make a run's weights a net's own, strictly, without copying: the parameters are the files' pages.

    Args:
        net: may be on the meta device; afterwards it is not.
        folder: of the run.
        dtype: what to convert the weights to; None: they stay what they are stored as.
    """
    stored = fitting(net, folder)
    for name, tensor in _own_tensors(net, stored):
        check_finite(tensor, name, folder)
        stored.forget()
    state = {name: tensor.to(dtype or tensor.dtype) for name, tensor in _own_tensors(net, stored)}
    net.load_state_dict(state, strict=False, assign=True)
    if net.tied:
        net.lm_head.weight = net.embed_tokens.weight


def fitting(net: Decoder, folder: Path, adding_vision: bool = False) -> Stored:
    """The tensors of a run as they lie on disk. Raises `UserError` where they are not this net's by name and shape.

    Args:
        net: what they should fit.
        folder: of the run.
        adding_vision: a run without any vision fits a net with it.
    """
    stored = open_stored(folder)
    source = folder / (next(iter(stored.files)) if len(stored.files) == 1 else INDEX)
    if not stored.files:
        raise UserError(f"no weights at {folder / WEIGHTS}; is {folder} a finished run?")
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {from_hugging_face(name): form.shape for name, form in stored.forms.items()}
    if net.tied and "embed_tokens.weight" in found:
        found.setdefault("lm_head.weight", found["embed_tokens.weight"])
    if adding_vision and not any(name.startswith(VISION) for name in found):
        own = {name: shape for name, shape in own.items() if not name.startswith(VISION)}
    missing, unexpected = own.keys() - found.keys(), found.keys() - own.keys()
    if missing or unexpected:
        raise UserError(
            f"{source} holds another net: missing {sorted(missing)[:3]}, unexpected {sorted(unexpected)[:3]}; "
            "the recipe's net must be the one the weights were trained with"
        )
    for name, shape in found.items():
        if shape != own[name]:
            raise UserError(f"{source}: {name} is {list(shape)}, the recipe's net wants {list(own[name])}")
    return stored


def _own_tensors(net: Decoder, stored: Stored) -> Iterator[tuple[str, Tensor]]:
    """The stored tensors under the net's names; a tied head comes with the embedding."""
    for name in stored.place:
        if not (net.tied and name == "lm_head.weight"):
            yield from_hugging_face(name), stored.tensor(name)
