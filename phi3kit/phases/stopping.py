"""What ends a run before its last step: a time limit, and Ctrl-C. Both wait for the end of a step, whose state is
saved, so that the same command goes on from there."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, Self, final

from lightning import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from phi3kit.errors import UserError


@final
class TimeLimit(Timer):
    """Lightning's `max_time`, for each command anew: what an earlier one took does not count.

    Args:
        duration: as Lightning takes it; None: no limit.
    """

    def __init__(self, duration: Any) -> None:
        try:
            super().__init__(duration, verbose=False)
        except (MisconfigurationException, TypeError) as error:
            raise UserError(f"trainer.max_time: {error}") from error
        self.reached = False

    def on_fit_start(self, trainer: Trainer, *arguments: Any, **options: Any) -> None:
        """Each command makes a step at least."""

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any, **options: Any) -> None:
        if self._duration is None or trainer.fit_loop._should_accumulate():
            return
        before = trainer.should_stop
        self._check_time_remaining(trainer)  # by the first device's clock
        self.reached = self.reached or (trainer.should_stop and not before)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        return None


@final
class CtrlC:
    """Ctrl-C while it is entered: the first is remembered, a second one stops at once."""

    def __init__(self) -> None:
        self.heard = False
        self._before: Any = None

    def __enter__(self) -> Self:
        here = threading.current_thread() is threading.main_thread()
        if here and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            print("\nstopping at the end of this step; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    def heard_anywhere(self, trainer: Trainer) -> bool:
        """Whether a device of the run has heard it. All devices ask at the same step."""
        if trainer.world_size == 1:
            return self.heard
        return trainer.strategy.reduce_boolean_decision(self.heard, all=False)
