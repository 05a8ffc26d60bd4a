"""A public checkpoint folder as a source of weights: read as it lies, without converting it first."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from phi3kit.checkpoints.public_folder import read_public_folder
from phi3kit.checkpoints.tokenizer_files import read_tokenizer
from phi3kit.families import Part, Tokenizer
from phi3kit.model.source import EMBEDDING, HEAD, Source


@final
class PublicSource(Source):
    """A folder as Hugging Face lays it out, recognised by its config.json.

    Args:
        folder: the checkpoint. Raises `UserError` where it is not whole and sound.
    """

    def __init__(self, folder: Path) -> None:
        self._public = read_public_folder(folder)
        super().__init__(self._public.section)
        self._parts: dict[str, list[Part]] = defaultdict(list)
        for part in self._public.parts:
            self._parts[part.ours].append(part)

    @property
    def path(self) -> Path:
        return self._public.path

    def tensor(self, name: str) -> Tensor:
        name = EMBEDDING if name == HEAD and self.net.tied else name
        parts, stored = self._parts[name], self._public.stored
        if not parts[0].place:
            return stored.tensor(parts[0].theirs)
        whole = torch.empty(self.net.state_dict()[name].shape, dtype=stored.forms[parts[0].theirs].dtype)
        for part in parts:
            whole[part.place] = stored.tensor(part.theirs)
        return whole

    def forget(self) -> None:
        self._public.stored.forget()

    def tokenizer(self) -> Tokenizer | None:
        """Its tokenizer; None where it has none that can be read without running its code."""
        return read_tokenizer(self._public.path, self.net.dims.vocab_size)
