"""Laws of `Phase`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from phi3kit.model import Decoder
from phi3kit.records import Batch
from phi3kit.testing import tiny
from phi3kit.testing.law import require

if TYPE_CHECKING:
    from phi3kit.phases import Phase


def check_phase(build: Callable[[Decoder], Phase], batch: Batch | None = None) -> None:
    """One optimizer step, taken by a Trainer, lowers the loss on the batch it was taken on.

    Args:
        build: makes the phase around a net.
        batch: what to train on; None: the tiny batch, whose rows a phase on pairs sees as chosen, rejected.
    """
    batch = batch or tiny.batch()
    phase = build(tiny.net().train())
    before = _loss(phase, batch)
    weights = copy.deepcopy(phase.net.state_dict())
    _one_step(phase, batch)
    moved = any(not torch.equal(weights[name], tensor) for name, tensor in phase.net.state_dict().items())
    require(moved, "a step changes the weights", "none changed")
    after = _loss(phase, batch)
    require(after < before, "one step lowers the loss on its batch", f"{before:.6f} before, {after:.6f} after")


def _loss(phase: Phase, batch: Batch) -> float:
    phase.setup("fit")  # as the Trainer does: DPO freezes its reference here
    with torch.no_grad():
        loss = phase.compute(batch)
    require(loss.count > 0, "a phase counts what its loss falls on", f"it counted {loss.count}")
    return loss.total.item() / loss.count


def _one_step(phase: Phase, batch: Batch) -> None:
    from phi3kit import torchvision_ops

    torchvision_ops.declare()
    import lightning
    from torch.utils.data import DataLoader

    trainer = lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(phase, train_dataloaders=DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
