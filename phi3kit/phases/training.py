"""One run, from its first step or its newest checkpoint to its end."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from phi3kit.errors import UserError
from phi3kit.phases.batches import Batches
from phi3kit.phases.checkpoints import Checkpoints
from phi3kit.phases.console import Console
from phi3kit.phases.phase import Phase
from phi3kit.phases.run_folder import RunFolder
from phi3kit.phases.stopping import CtrlC, TimeLimit
from phi3kit.phases.trainer import batches_per_step, make_trainer
from phi3kit.recipe import Recipe

if TYPE_CHECKING:
    from jsonargparse import Namespace


def train(
    recipe: Recipe, folder: RunFolder, phase: Phase, data: Batches, arguments: Namespace
) -> dict[str, Any] | None:
    """Train as far as the recipe says; returns the run's report, or None where its time limit came first.

    Args:
        recipe: of the run.
        folder: of the run; it has the recipe already.
        phase: with the net.
        data: what it learns from.
        arguments: of the Trainer, its objects made.
    """
    config = recipe.config
    notes = phase.schedule.notes(config.trainer.max_steps)
    start = folder.read_json("start.json")
    checkpoints = folder.checkpoints()
    if folder.first:
        for note in notes:
            print(f"note: {note}", file=sys.stderr, flush=True)
    if start is None:
        start = evaluate(arguments, phase, data, "heldout")
        folder.write_json("start.json", start)
    limit, ctrl_c = TimeLimit(arguments.max_time), CtrlC()
    options = arguments.clone()
    options.log_every_n_steps = arguments.log_every_n_steps or min(10, max(1, config.trainer.max_steps // 100))
    console = Console(
        folder,
        folder.path.name,
        options.log_every_n_steps,
        each=arguments.log_every_n_steps is not None,
        live=arguments.enable_progress_bar is not False,
    )
    saver = Checkpoints(folder, config.checkpoint_every, ctrl_c=ctrl_c)
    logger = TensorBoardLogger(folder.path, name="", version="tensorboard")
    trainer = make_trainer(options, [console, limit, saver], logger)
    if config.rows_per_step is not None:
        trainer.accumulate_grad_batches = batches_per_step(config.rows_per_step, data.batch_size, trainer)
    resume = checkpoints[-1] if checkpoints else None
    if resume and folder.first:
        print(f"{folder.path}: going on from {resume.name}")
    with ctrl_c:
        _fit_from(trainer, phase, data, resume)
    if limit.reached and trainer.global_step < trainer.max_steps:
        if folder.first:
            where = f"step {trainer.global_step} of {trainer.max_steps}"
            print(f"{folder.path}: stopped at {where} by trainer.max_time; the same command goes on from here")
        return None
    end = evaluate(arguments, phase, data, "heldout")
    return {
        "steps": trainer.global_step,
        "train_loss": console.last_loss,
        "before": start,
        "after": end,
        **({"notes": notes} if notes else {}),
        **data.report,
        **{k: v for c in trainer.callbacks for k, v in getattr(c, "report", {}).items()},  # type: ignore[attr-defined]
    }


def _fit_from(trainer: Trainer, phase: Phase, data: Batches, checkpoint: Path | None) -> None:
    """`trainer.fit`, with what is wrong about its input as one clear line."""
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    try:
        with _interrupts():
            trainer.fit(phase, data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    except ValueError as error:
        if "val_check_interval" in str(error):
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error
        raise
    except RuntimeError as error:
        if str(error).startswith("Early stopping conditioned on metric"):
            raise UserError(f"trainer.callbacks: {' '.join(str(error).split())}") from error
        raise


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Lightning ends what Ctrl-C interrupted with SystemExit; make it the interrupt it was."""
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop


def check_checkpoint(path: Path) -> None:
    """Raise `UserError` where a checkpoint cannot be read whole."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0][:80]}); remove it to go on from the one before it"
        ) from error


def evaluate(arguments: Namespace, phase: Phase, data: Batches, part: str, callbacks: bool = False) -> dict[str, float]:
    """Held-out measures of the phase's net as it is now.

    Args:
        arguments: of the Trainer.
        phase: what measures.
        data: what it measures on.
        part: "heldout" or "test".
        callbacks: whether the recipe's callbacks set the phase up first, as they did where it was trained.

    Raises:
        UserError: the loss is NaN or infinite.
    """
    options = arguments.clone()
    if not callbacks:
        options.callbacks = None
    options.val_check_interval = 1.0
    trainer = make_trainer(options, [], False)
    run = trainer.validate if part == "heldout" else trainer.test
    with _interrupts():
        found = run(phase, data, verbose=False) or [{}]
    measures = {name: value for part in found for name, value in part.items()}
    if not math.isfinite(measures.get("heldout/loss", 0.0)):
        raise UserError(
            f"the held-out loss is {measures['heldout/loss']}, which is not a number; where training made it so, lower "
            "the learning rate and give the run another --out"
        )
    return {name.removeprefix("heldout/"): value for name, value in measures.items()}
