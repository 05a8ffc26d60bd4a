"""What a run says while it trains: a line in the terminal, a row in metrics.csv, a point in its loggers."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any, final

from lightning import Callback, LightningModule, Trainer

from phi3kit.phases.phase import Phase
from phi3kit.phases.run_folder import RunFolder, write
from phi3kit.records import Batch

PAUSE = 30.0  # seconds between lines where there is no terminal
STANDS_OUT = 1.5  # times the loss of a line


@final
class Console(Callback):
    """A line now and then: step, loss, gradient norm, learning rate, tokens/s, estimate; and a row of metrics.csv every
    few steps, which also has what the phase measures beside its loss.

    On a terminal the line is redrawn in place at each step. Elsewhere there is one for the first step and the last, and
    one about every half minute, which names the highest loss since the one before it where that stands out.

    Args:
        folder: of the run.
        label: what the run is called on the line.
        every_n_steps: steps between rows.
        each: a line for each row, too.
        live: redraw the line on a terminal.
    """

    def __init__(
        self, folder: RunFolder, label: str, every_n_steps: int, each: bool = False, live: bool = True
    ) -> None:
        self.folder, self.label, self.every_n_steps, self.each = folder, label, every_n_steps, each
        self.live = live and sys.stderr.isatty()
        self.tokens = 0
        self.total_tokens = 0
        self.last_loss = float("nan")
        self._since = 0.0
        self._first_step = 0
        self._begin = 0.0
        self._told = float("-inf")
        self._highest = float("-inf")

    def state_dict(self) -> dict[str, Any]:
        return {"last_loss": self.last_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last_loss = state["last_loss"]

    def on_train_start(self, trainer: Trainer, phase: LightningModule) -> None:
        self._since = self._begin = time.perf_counter()
        self._first_step = trainer.global_step
        if trainer.is_global_zero:
            _forget_after(self.folder.path / "metrics.csv", trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, phase: LightningModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        tokens = batch.tokens_BT.numel() * trainer.world_size
        self.tokens += tokens
        self.total_tokens += tokens
        step = trainer.global_step
        if trainer.fit_loop._should_accumulate():
            return
        last = step == trainer.max_steps
        logged = step % self.every_n_steps == 0 or last
        if logged:
            self._log(trainer, phase, step)
        if not trainer.is_global_zero:
            return
        if self.live:
            end = "\n" if last else ""
            print("\r\033[K" + self._line(trainer, phase, step), end=end, file=sys.stderr, flush=True)
        elif last or (logged and self.each) or time.perf_counter() - self._told >= PAUSE:
            print(self._line(trainer, phase, step) + self._peak(trainer), file=sys.stderr, flush=True)
            self._told, self._highest = time.perf_counter(), float("-inf")

    def _peak(self, trainer: Trainer) -> str:
        """The highest loss since the last line, where this one would hide it."""
        stands_out = self._highest > STANDS_OUT * _loss(trainer)
        return f"  (loss up to {self._highest:.4f} since the line before)" if stands_out else ""

    def _line(self, trainer: Trainer, phase: LightningModule, step: int) -> str:
        elapsed = time.perf_counter() - self._begin
        left = elapsed / max(1, step - self._first_step) * (trainer.max_steps - step)
        loss = _loss(trainer)
        rate = self.total_tokens / elapsed if elapsed else 0.0
        return (
            f"{self.label}  step {step}/{trainer.max_steps}  loss {loss:.4f}  grad {_grad_norm(phase):.2f}  "
            f"lr {_rate(trainer):.2e}  {rate:,.0f} tok/s  {_clock(left)} left"
        )

    def _log(self, trainer: Trainer, phase: LightningModule, step: int) -> None:
        now = time.perf_counter()
        row: dict[str, float] = {
            "step": step,
            "loss": _loss(trainer),
            "grad_norm": _grad_norm(phase),
            "lr": _rate(trainer),
            "tokens_per_second": self.tokens / max(1e-9, now - self._since),
        }
        self.tokens, self._since, self.last_loss = 0, now, row["loss"]
        self._highest = max(self._highest, row["loss"])
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=step)
        if trainer.is_global_zero:
            _append(self.folder.path / "metrics.csv", row | _of_the_phase(trainer))


def _of_the_phase(trainer: Trainer) -> dict[str, float]:
    """What the phase logs beside its loss (rewards, the balance of experts), which its loggers have already."""
    names = [name for name in trainer.callback_metrics if name.startswith("train/") and name != "train/loss"]
    return {name.removeprefix("train/"): float(trainer.callback_metrics[name]) for name in names}


def _loss(trainer: Trainer) -> float:
    return float(trainer.callback_metrics.get("train/loss", float("nan")))


def _grad_norm(phase: LightningModule) -> float:
    assert isinstance(phase, Phase)
    return float(phase.grad_norm)


def _rate(trainer: Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _forget_after(path: Path, step: int) -> None:
    """Drop rows of steps that a killed run made after its last checkpoint; they will be made again."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) <= step]
    write(path, lambda partial: partial.write_text("".join([*lines[:1], *kept])))
