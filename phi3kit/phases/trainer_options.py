"""Which of Lightning's Trainer options a recipe may set. Those that phi3kit decides itself are refused where they are
given, never taken and ignored."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning import Trainer

from phi3kit.errors import UserError

LENGTH = "a run's length is trainer.max_steps"
ONE_EPOCH = "the whole run is one epoch of batches"
INSTEAD = {
    "max_epochs": f"{LENGTH}: rows of the data / rows of a step, times the epochs",
    "min_epochs": LENGTH,
    "limit_train_batches": LENGTH,
    "fast_dev_run": "for a short trial give --trainer.max_steps 1",
    "overfit_batches": "to learn a few rows by heart, give data that has only those",
    "limit_predict_batches": "nothing predicts",
    "check_val_every_n_epoch": f"{ONE_EPOCH}; trainer.val_check_interval says after how many batches to measure",
    "reload_dataloaders_every_n_epochs": ONE_EPOCH,
    "num_sanity_val_steps": "held-out data is measured before the first step anyway",
    "enable_checkpointing": "checkpoint_every says how often the state is saved, 0 never",
    "barebones": "a run keeps its log and its checkpoints",
}
ALSO: dict[str, tuple[Any, ...]] = {  # values that ask for what is done anyway
    "max_epochs": (-1,),
    "limit_train_batches": (1.0,),
    "limit_predict_batches": (1.0,),
    "check_val_every_n_epoch": (None,),
    "num_sanity_val_steps": (0,),
}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what cannot be obeyed, before anything is built.

    Raises:
        UserError: names the option and what to write instead.
    """
    defaults = inspect.signature(Trainer.__init__).parameters
    for name, instead in INSTEAD.items():
        value = options.get(name, defaults[name].default)
        if not any(_same(value, harmless) for harmless in (defaults[name].default, *ALSO.get(name, ()))):
            raise UserError(f"trainer.{name} is {value!r}, which a run does not follow: {instead}; leave it out")
    steps = options.get("max_steps", -1)
    if steps < 1:
        given = "" if steps == -1 else f" (it is {steps})"
        raise UserError(f"the recipe lacks trainer.max_steps: how many optimizer steps to train{given}")
    batches = options.get("accumulate_grad_batches", 1)
    if batches < 1:
        raise UserError(f"trainer.accumulate_grad_batches is {batches}; give 1 or more batches a step")
    clip = options.get("gradient_clip_val")
    if clip is not None and not clip >= 0:
        raise UserError(f"trainer.gradient_clip_val is {clip}; give a norm above 0, or 0 not to clip")
    if options.get("precision") == "16-true":
        raise UserError("trainer.precision is 16-true: fp16 loses small gradients and steps; use 16-mixed or bf16-true")
    _check_devices(options)


def _same(value: Any, other: Any) -> bool:
    """Equal, and of one type: 1 is one batch and 1.0 all of them."""
    return type(value) is type(other) and value == other


def _check_devices(options: Mapping[str, Any]) -> None:
    accelerator = options.get("accelerator", "auto")
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wanted = {"gpu": any(here.values()), **here}.get(accelerator, True)
    if not wanted:
        raise UserError(
            f"trainer.accelerator is {accelerator}, and there is none here; use cpu, or auto for what there is"
        )
    if accelerator != "cpu" and (accelerator != "auto" or any(here.values())):
        return  # Lightning counts those
    devices, cores = options.get("devices", "auto"), os.cpu_count() or 1
    if str(devices).isdigit() and int(devices) > cores:
        raise UserError(
            f"trainer.devices is {devices}, and this machine has {cores} processor cores; give at most {cores}"
        )
