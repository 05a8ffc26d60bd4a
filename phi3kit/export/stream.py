"""A net quantized part by part: each is read, quantized, kept on disk and released before the next is read.

What was kept is used again where it was made from the same weights in the same way, so that an export that was stopped
goes on where it was. A part's key is the hash of its numbers, of its place in the net and of the quantizer's options;
for calibrated quantizers also of the text and of all parts before it, which decide what it sees.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from phi3kit import __version__
from phi3kit.errors import UserError
from phi3kit.export import kept
from phi3kit.export.calibration import HiddenStates, check_text
from phi3kit.export.device import for_device
from phi3kit.families import Quantizer
from phi3kit.model import Decoder
from phi3kit.model.load import build_net
from phi3kit.model.source import Source
from phi3kit.model.tensor_file import TensorFile

FOLDER = "quantized"  # in the unfinished bundle
FORMAT = 2  # of the keys: a change of what a key means is another format
SUFFIX, VISION = ".safetensors", "vision_embed_tokens"
Told = Callable[[int, int, str], None]  # parts done, of so many, name of the next


def silent(done: int, count: int, name: str) -> None:
    """Tells nobody how far it is."""


@final
class Stream:
    """The parts of a net on their way from float numbers to quantized ones on disk.

    Args:
        source: where the float numbers are.
        quantizer: None leaves them as they are, in fp32.
        folder: where quantized parts are kept, and found again.
        rows: text for calibrated quantizers, ids [T] each.
    """

    def __init__(self, source: Source, quantizer: Quantizer | None, folder: Path, rows: Sequence[Tensor] = ()) -> None:
        self._source, self._quantizer, self._folder, self._rows = source, quantizer, folder, list(rows)
        self._calibrated = quantizer is not None and quantizer.calibrated
        self._net = build_net(source.section, "meta")
        if quantizer is not None:
            check_text(quantizer, self._rows)
            quantizer.plan(self._net)
        self._before = self._what_decides_all()
        self._files: list[TensorFile] = []
        self._states: HiddenStates | None = None
        self.reused = 0  # parts that were there already

    def run(self, told: Told = silent) -> Decoder:
        """The quantized net in its device form, its parameters being pages of the kept files; in evaluation mode.

        Raises:
            UserError: a width that the quantizer cannot take, or a full disk.
        """
        net = self._net
        self._folder.mkdir(parents=True, exist_ok=True)
        names = list(_parts(net))
        for number, name in enumerate(names):
            told(number, len(names), name)
            self._part(net, name, self._folder / f"{number:04d}-{name}{SUFFIX}")
        told(len(names), len(names), "")
        net.tied = False  # head and embedding are quantized each its own way
        return net.eval()

    def forget(self) -> None:
        """Give pages of the kept files back; they are read again where they are needed."""
        for file in self._files:
            file.forget()

    @torch.no_grad()
    def _part(self, net: Decoder, name: str, file: Path) -> None:
        part = net.get_submodule(name)
        floats = {own: self._source.tensor(f"{name}.{own}") for own in part.state_dict()}
        key = self._key(name, floats)
        if kept.key_of(file) == key:
            for_device(part)
            self.reused += 1
        else:
            _fill(part, floats)
            for_device(part)
            self._quantize(net, part, name)
            kept.keep(part, file, key)
        del floats
        self._source.forget()
        self._files.append(kept.give_back(part, file))
        if self._calibrated:
            self._before = key
            self._see(net, part, name)
        self.forget()

    def _quantize(self, net: Decoder, part: nn.Module, name: str) -> None:
        """The one place where a quantizer is asked; calibrated ones run the part on what reaches it."""
        if self._quantizer is None or name == "norm":
            return
        if self._states is None or name == VISION:
            self._quantizer.quantize(part, name)
            return
        states = self._states
        run = states.each if name == "lm_head" else states.through
        self._quantizer.quantize_block(part, name, lambda: run(part))

    def _see(self, net: Decoder, part: nn.Module, name: str) -> None:
        """The calibration text passes through a finished part."""
        if name == "embed_tokens":
            self._states = HiddenStates(net, self._rows)
        elif self._states is not None and name == "norm":
            self._states.pass_each(part)
        elif self._states is not None and name.startswith("layers."):
            self._states.pass_through(part)

    def _what_decides_all(self) -> str:
        options = None if self._quantizer is None else [type(self._quantizer).__name__, self._quantizer.describe()]
        text = [row_T.tolist() for row_T in self._rows] if self._calibrated else []
        made_with = {name: version(name) for name in ("torchao", "torch")}
        content = [FORMAT, __version__, made_with, self._source.section, options, text]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def _key(self, name: str, floats: dict[str, Tensor]) -> str:
        digest = hashlib.sha256(f"{self._before} {name}".encode())
        for own, tensor in floats.items():
            digest.update(f"{own} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]
        return digest.hexdigest()


def kept_net(section: dict[str, Any], folder: Path) -> Decoder:
    """The quantized net from what was kept of it, whatever it was made from; nothing is computed.

    Args:
        section: the ``net:`` of a recipe.
        folder: of the kept parts. Raises `UserError` where one is missing.
    """
    net = build_net(section, "meta")
    for number, name in enumerate(_parts(net)):
        file = folder / f"{number:04d}-{name}{SUFFIX}"
        if not file.is_file():
            raise UserError(f"{folder} lacks {file.name}; export again")
        part = net.get_submodule(name)
        for_device(part)
        kept.give_back(part, file)
    net.tied = False
    return net.eval()


def _parts(net: Decoder) -> Iterator[str]:
    """Names of the parts in the order of a forward pass; together they hold every parameter."""
    yield "embed_tokens"
    if net.vision_embed_tokens is not None:
        yield VISION
    yield from (f"layers.{number}" for number in range(len(net.layers)))
    yield from ("norm", "lm_head")


def _fill(part: nn.Module, floats: dict[str, Tensor]) -> None:
    """Give a part its numbers in fp32."""
    part.load_state_dict({name: tensor.float() for name, tensor in floats.items()}, assign=True)
    part.requires_grad_(False)
