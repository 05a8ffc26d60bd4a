"""Where the numbers of a net come from, one tensor at a time: a run's files, or a random draw of the true shape.

Special here: nothing is held. A tensor is a view of its file's pages, or is drawn when it is asked for, so that a net
of any size can be read part by part. (Public checkpoint folders are a source too: `phi3kit.checkpoints.source`.)
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from phi3kit.model.decoder import Decoder
from phi3kit.model.load import build_net, net_section, whole_section
from phi3kit.model.stored import weight_files
from phi3kit.model.weights import fitting, from_hugging_face

EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"


class Source(ABC):
    """The weights of one net.

    Args:
        section: the ``net:`` of a recipe that builds the net.
    """

    def __init__(self, section: dict[str, Any]) -> None:
        self.section = section
        self.net: Decoder = build_net(section, "meta")

    @abstractmethod
    def tensor(self, name: str) -> Tensor:
        """A parameter under the net's own name, as it is stored; a tied head is the embedding. Not to be written to."""

    def forget(self) -> None:
        """Give pages back that were read. Default: there are none."""
        return None

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """Folder of the weights; None where they are drawn."""

    @property
    def files(self) -> list[Path]:
        """The files the weights are in."""
        return [] if self.path is None else weight_files(self.path)

    @property
    def says(self) -> str:
        """What it is, as reports name it."""
        return str(self.path)


@final
class RunSource(Source):
    """A finished run.

    Args:
        run: its folder. Raises `UserError` where it has no weights, or those of another net.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(net_section(run))
        self._run = run
        self._stored = fitting(self.net, run)
        self._names = {from_hugging_face(name): name for name in self._stored.place}

    @property
    def path(self) -> Path:
        return self._run

    def tensor(self, name: str) -> Tensor:
        return self._stored.tensor(self._names.get(name) or self._names[EMBEDDING])

    def forget(self) -> None:
        self._stored.forget()


@final
class RandomSource(Source):
    """Weights drawn as training begins with them, each tensor from a generator of its own.

    The same section, seed and name give the same numbers, in whatever order they are asked for. Matrices come from a
    normal distribution with the net's ``init_std``, in bfloat16 like a public checkpoint's; biases are 0, norms 1.

    Args:
        section: the ``net:`` of a recipe.
        seed: of the draw.
    """

    def __init__(self, section: dict[str, Any], seed: int) -> None:
        super().__init__(section)
        self.seed = seed
        whole = whole_section(section)
        self._std, self._scale = whole["init_std"], whole["init_scale"] or {}
        self._shapes = {name: tensor.shape for name, tensor in self.net.state_dict().items()}

    @property
    def path(self) -> None:
        return None

    @property
    def says(self) -> str:
        return f"random weights, seed {self.seed}"

    def tensor(self, name: str) -> Tensor:
        shape = self._shapes[name]
        name = EMBEDDING if name == HEAD and self.net.tied else name
        if len(shape) < 2:
            return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
        seed = int.from_bytes(hashlib.sha256(json.dumps([self.seed, name]).encode()).digest()[:8], "big")
        generator = torch.Generator().manual_seed(seed)
        factor = next((factor for ending, factor in self._scale.items() if name.endswith(ending)), 1.0)
        return torch.empty(shape).normal_(std=self._std * factor, generator=generator).to(torch.bfloat16)


def whole_net(source: Source) -> Decoder:
    """The float net, all of it, in fp32 and in evaluation mode. It is as large as it says: 4 bytes a parameter."""
    net = build_net(source.section, "meta")
    state = {name: source.tensor(name).float() for name in net.state_dict() if not (net.tied and name == HEAD)}
    net.load_state_dict(state, strict=False, assign=True)
    if net.tied:
        net.lm_head.weight = net.embed_tokens.weight
    return net.requires_grad_(False).eval()
