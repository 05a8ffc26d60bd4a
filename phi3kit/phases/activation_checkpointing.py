"""Less memory for activations: what a block computed is computed again in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import final

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from phi3kit.errors import UserError
from phi3kit.phases.phase import Phase


@final
class ActivationCheckpointing(Callback):
    """Keeps only the input of each block for the backward pass and computes the rest again there: about a third more
    work, for activations of one block instead of all (arXiv 1604.06174). Gradients are the same to the bit, dropout
    and a router's sampling included.

    Args:
        every: every how-manieth block is treated so; 2 keeps the activations of every other block.
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise UserError(f"ActivationCheckpointing: every is {every}; give 1 or more")
        self.every = every

    def setup(self, trainer: Trainer, phase: LightningModule, stage: str) -> None:
        assert isinstance(phase, Phase)
        for block in phase.net.layers[:: self.every]:
            if not isinstance(block.forward, functools.partial):  # a trainer sets a phase up once per stage
                block.forward = functools.partial(_recomputed, block.forward)  # names of parameters stay


def _recomputed(forward: Callable[..., Tensor], *inputs: object) -> Tensor:
    """`forward`, which keeps nothing but its inputs where there will be a backward pass."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)
