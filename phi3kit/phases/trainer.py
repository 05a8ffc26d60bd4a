"""A Trainer as phi3kit uses it: progress, checkpoints and data state are phi3kit's own."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from phi3kit.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace


def make_trainer(arguments: Namespace | Mapping[str, Any], extra: list[Any], logger: Any) -> Trainer:
    """A Trainer out of a recipe's options.

    Args:
        arguments: the recipe's `trainer`, its objects made (see `check_options`).
        extra: callbacks after the recipe's.
        logger: where the recipe names none.

    Raises:
        UserError: options that Lightning refuses.
    """
    options = dict(arguments)
    options["strategy"] = copy.deepcopy(options["strategy"])  # one strategy serves one Trainer
    options["callbacks"] = callbacks = [*(options.get("callbacks") or []), *extra]
    if options.get("logger") is None:
        options["logger"] = logger
    if options.get("profiler") is not None:  # its summary goes to a logger that `hush` has silenced
        logging.getLogger("lightning.pytorch.profilers.profiler").setLevel(logging.INFO)
    options |= {
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "enable_model_summary": bool(options.get("enable_model_summary")),
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "max_epochs": -1,
        "max_time": None,  # see `TimeLimit`
    }
    if not options.get("val_check_interval"):
        options["limit_val_batches"] = 0
    try:
        return Trainer(**options)
    except UserError:
        raise
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error


def batches_per_step(rows: int, batch_size: int, trainer: Trainer) -> int:
    """How many batches every device adds up for an optimizer step of so many rows."""
    devices = trainer.num_devices * trainer.num_nodes
    if trainer.accumulate_grad_batches != 1:
        raise UserError("give either rows_per_step or trainer.accumulate_grad_batches, not both")
    if rows < 1 or rows % (batch_size * devices):
        raise UserError(
            f"rows_per_step is {rows}, not a multiple of {batch_size} rows on each of {devices} devices; "
            "change it, data.init_args.batch_size or trainer.devices"
        )
    return rows // (batch_size * devices)
