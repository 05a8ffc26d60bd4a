"""A run ends where it stops being numbers: before the step that would put NaN into every weight."""

from __future__ import annotations

import math

from lightning import LightningModule, Trainer

from phi3kit.errors import UserError
from phi3kit.model.finite import is_finite
from phi3kit.model.weights import local

LEAST_SCALE = 1.0  # of fp16's losses; torch begins at 65,536 and halves it after a gradient that overflows
ADVICE = (
    "the checkpoints before it are whole; lower the learning rate, warm up for longer or set "
    "trainer.gradient_clip_val, and give the run another --out"
)


def check_step(trainer: Trainer, loss: float, grad_norm: float) -> None:
    """Refuse an optimizer step that is about to be taken.

    In 16-mixed a gradient may overflow now and then: its scaler leaves that step out and tries a smaller scale.

    Args:
        trainer: of the run.
        loss: of the step, on all devices.
        grad_norm: of the whole gradient, before it is clipped.

    Raises:
        UserError: one of them is NaN or infinite.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scales = scaler is not None and scaler.get_scale() > LEAST_SCALE
    if not math.isfinite(loss) or not (scales or math.isfinite(grad_norm)):
        raise UserError(
            f"step {trainer.global_step + 1}: loss {loss:.4g}, gradient norm {grad_norm:.4g}: not a number, so "
            f"this step was not taken and the run ends here; {ADVICE}"
        )


def check_weights(trainer: Trainer, phase: LightningModule) -> None:
    """Refuse weights that are about to be saved. Every device looks at what it holds, and all hear of it.

    Raises:
        UserError: some of them are NaN or infinite.
    """
    wrong = [name for name, tensor in phase.named_parameters() if not is_finite(local(tensor))]
    if not trainer.strategy.reduce_boolean_decision(not wrong):
        raise UserError(
            f"step {trainer.global_step} left weights that are not numbers"
            f"{f' ({wrong[0]})' if wrong else ''}; nothing of it is saved; {ADVICE}"
        )
