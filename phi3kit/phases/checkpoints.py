"""Training state on disk, at optimizer-step boundaries."""

from __future__ import annotations

from typing import Any, final

from lightning import Callback, LightningModule, Trainer

from phi3kit.phases.finite import check_weights
from phi3kit.phases.run_folder import RunFolder, write
from phi3kit.phases.stopping import CtrlC


@final
class Checkpoints(Callback):
    """Saves the training state at optimizer-step boundaries, at the last step and where a run is stopped, and keeps the
    newest ones. Every device takes part (a sharded net is gathered), the first one writes. Weights that are not numbers
    are never saved.

    Args:
        folder: of the run.
        every_n_steps: optimizer steps between checkpoints; 0: none, but where the run is stopped.
        keep: how many to keep.
        ctrl_c: is asked after each step whether to stop.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int, keep: int = 2, ctrl_c: CtrlC | None = None) -> None:
        self.folder, self.every_n_steps, self.keep = folder, every_n_steps, keep
        self.ctrl_c = ctrl_c or CtrlC()

    def on_train_end(self, trainer: Trainer, phase: LightningModule) -> None:
        check_weights(trainer, phase)

    def on_train_batch_end(self, trainer: Trainer, phase: LightningModule, *_: Any) -> None:
        if trainer.fit_loop._should_accumulate():
            return
        step, asked = trainer.global_step, self.ctrl_c.heard_anywhere(trainer)
        last = step == trainer.max_steps
        stopped = asked or (not last and trainer.should_stop and trainer.fit_loop._can_stop_early)
        if stopped or (self.every_n_steps and (last or step % self.every_n_steps == 0)):
            self._save(trainer, phase, step)
        if asked:
            raise KeyboardInterrupt

    def _save(self, trainer: Trainer, phase: LightningModule, step: int) -> None:
        path = self.folder.checkpoint_path(step)
        if path.exists():
            return
        check_weights(trainer, phase)
        if not trainer.is_global_zero:
            trainer.save_checkpoint(path)
            return
        write(path, trainer.save_checkpoint)
        self.folder.keep_newest(self.keep)
