"""Does long context cost anything, does it help: held-out loss at several lengths, before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from lightning import Callback, LightningModule, Trainer

from phi3kit.families import Position
from phi3kit.phases.phase import Phase
from phi3kit.phases.token_stream import TokenStream
from phi3kit.records import Batch, Dims


@final
class LossByLength(Callback):
    """Held-out loss at several lengths, before and after: does long context cost anything, does it help?

    ``before`` is the net as it starts, with its former position, run at every length unextended; ``after`` is
    the trained net with the recipe's position. Both end in the run's report.

    Args:
        folder: prepared data.
        part: which part of it; its held-out documents are read.
        lengths: rows of so many tokens, e.g. 1, 2 and 4 times the original context.
        before: the position the net was trained with so far.
        rows: how many rows of each length at the most.
    """

    def __init__(
        self,
        folder: Path,
        part: str,
        lengths: list[int],
        before: Callable[[Dims], Position],
        rows: int = 32,
    ) -> None:
        self.folder, self.part, self.lengths = Path(folder), part, lengths
        self.before, self.rows = before, rows
        self.report: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return self.report

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.report = dict(state)

    def on_fit_start(self, trainer: Trainer, phase: LightningModule) -> None:
        assert isinstance(phase, Phase)
        if "loss_by_length_before" in self.report:
            return
        position = phase.net.position
        phase.net.position = self.before(phase.net.dims).to(phase.device)
        self.report["loss_by_length_before"] = self._measure(trainer, phase)
        phase.net.position = position

    def on_fit_end(self, trainer: Trainer, phase: LightningModule) -> None:
        assert isinstance(phase, Phase)
        self.report["loss_by_length_after"] = self._measure(trainer, phase)

    def _measure(self, trainer: Trainer, phase: Phase) -> dict[str, float]:
        tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        was_training = phase.training
        phase.eval()
        losses = {}
        for length in self.lengths:
            data = TokenStream(tokenizer, self.folder, self.part, length, batch_size=1, heldout_batches=self.rows)
            total, count = 0.0, 0
            for batch in data.heldout_loader():
                with torch.no_grad(), trainer.precision_plugin.forward_context():
                    loss = phase.compute(_on(batch, phase.device))
                total, count = total + loss.total.item(), count + loss.count
            losses[str(length)] = total / count
        phase.train(was_training)
        return losses


def _on(batch: Batch, device: torch.device) -> Batch:
    names = ("tokens_BT", "labels_BT", "positions_BT", "documents_BT")
    return replace(batch, **{name: getattr(batch, name).to(device) for name in names})
