"""Which samples every step saw."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import final

from lightning import Callback, LightningModule, Trainer

from phi3kit.records import Batch


@final
class SampleLog(Callback):
    """Writes which samples every step saw, one JSON line per batch: the proof of exact resumption.

    Args:
        path: the file to append to.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def on_train_batch_start(self, trainer: Trainer, phase: LightningModule, batch: Batch, index: int) -> None:
        line = json.dumps({"step": trainer.global_step, "rank": trainer.global_rank, "samples": batch.samples})
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
