"""Training state on disk, at optimizer-step boundaries."""

from __future__ import annotations

from typing import Any, final

from lightning import Callback, LightningModule, Trainer

from phi3kit.phases.finite import check_weights
from phi3kit.phases.run_folder import RunFolder, write


@final
class Checkpoints(Callback):
    """Saves the training state at optimizer-step boundaries and keeps the newest ones. Every device takes part (a
    sharded net is gathered), the first one writes. Weights that are not numbers are never saved.

    Args:
        folder: of the run.
        every_n_steps: optimizer steps between checkpoints; 0: none.
        keep: how many to keep.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int, keep: int = 2) -> None:
        self.folder, self.every_n_steps, self.keep = folder, every_n_steps, keep

    def on_train_end(self, trainer: Trainer, phase: LightningModule) -> None:
        check_weights(trainer, phase)

    def on_train_batch_end(self, trainer: Trainer, phase: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if not self.every_n_steps or step % self.every_n_steps or self.folder.checkpoint_path(step).exists():
            return
        if trainer.fit_loop._should_accumulate():
            return
        check_weights(trainer, phase)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder.checkpoint_path(step))
            return
        write(self.folder.checkpoint_path(step), trainer.save_checkpoint)
        for old in self.folder.checkpoints()[: -self.keep]:
            old.unlink()
