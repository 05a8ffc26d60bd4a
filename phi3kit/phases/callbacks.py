"""What happens around the steps: checkpoints, the console line, the metrics file, loss by length."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from lightning import Callback, LightningModule, Trainer

from phi3kit.families import Position
from phi3kit.phases.batches import TokenStream
from phi3kit.phases.phase import Phase
from phi3kit.phases.run_folder import RunFolder, write
from phi3kit.records import Batch, Dims


@final
class Checkpoints(Callback):
    """Saves the training state at optimizer-step boundaries and keeps the newest ones.

    Args:
        folder: of the run.
        every_n_steps: optimizer steps between checkpoints; 0: none.
        keep: how many to keep.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int, keep: int = 2) -> None:
        self.folder, self.every_n_steps, self.keep = folder, every_n_steps, keep
        self._random: torch.Tensor | None = None

    def on_train_batch_end(self, trainer: Trainer, phase: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if not self.every_n_steps or step % self.every_n_steps or self.folder.checkpoint_path(step).exists():
            return
        if trainer.fit_loop._should_accumulate():
            return
        write(self.folder.checkpoint_path(step), trainer.save_checkpoint)
        if trainer.is_global_zero:
            for old in self.folder.checkpoints()[: -self.keep]:
                old.unlink()

    def state_dict(self) -> dict[str, Any]:
        return {"random": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._random = state["random"]

    def on_train_start(self, trainer: Trainer, phase: LightningModule) -> None:
        if self._random is not None:
            torch.set_rng_state(self._random.cpu())


@final
class Console(Callback):
    """One line per logged step: step, loss, gradient norm, learning rate, tokens/s, estimate; and metrics.csv.

    On a terminal the line is redrawn in place between logged steps; elsewhere lines are plain.

    Args:
        folder: of the run.
        label: what the run is called on the line.
        every_n_steps: steps between logged lines.
    """

    def __init__(self, folder: RunFolder, label: str, every_n_steps: int) -> None:
        self.folder, self.label, self.every_n_steps = folder, label, every_n_steps
        self.losses: list[tuple[float, int]] = []
        self.tokens = 0
        self.total_tokens = 0
        self.last_loss = float("nan")
        self._since = 0.0
        self._first_step = 0
        self._begin = 0.0

    def on_train_start(self, trainer: Trainer, phase: LightningModule) -> None:
        self._since = self._begin = time.perf_counter()
        self._first_step = trainer.global_step
        _forget_after(self.folder.path / "metrics.csv", trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, phase: LightningModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        self.tokens += batch.tokens_BT.numel()
        self.total_tokens += batch.tokens_BT.numel()
        step = trainer.global_step
        if trainer.fit_loop._should_accumulate():
            return
        last = step == trainer.max_steps
        if step % self.every_n_steps == 0 or last:
            self._log(trainer, phase, step)
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            end = "\n" if last else ""
            print("\r\033[K" + self._line(trainer, phase, step), end=end, file=sys.stderr, flush=True)
        elif step % self.every_n_steps == 0 or last:
            print(self._line(trainer, phase, step), file=sys.stderr, flush=True)

    def _line(self, trainer: Trainer, phase: LightningModule, step: int) -> str:
        elapsed = time.perf_counter() - self._begin
        left = elapsed / max(1, step - self._first_step) * (trainer.max_steps - step)
        loss = float(trainer.callback_metrics.get("train/loss", float("nan")))
        rate = self.total_tokens / elapsed if elapsed else 0.0
        return (
            f"{self.label}  step {step}/{trainer.max_steps}  loss {loss:.4f}  grad {_grad_norm(phase):.2f}  "
            f"lr {_rate(trainer):.2e}  {rate:,.0f} tok/s  {_clock(left)} left"
        )

    def _log(self, trainer: Trainer, phase: LightningModule, step: int) -> None:
        now = time.perf_counter()
        row: dict[str, float] = {
            "step": step,
            "loss": float(trainer.callback_metrics.get("train/loss", float("nan"))),
            "grad_norm": _grad_norm(phase),
            "lr": _rate(trainer),
            "tokens_per_second": self.tokens / max(1e-9, now - self._since),
        }
        self.tokens, self._since, self.last_loss = 0, now, row["loss"]
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=step)
        if trainer.is_global_zero:
            _append(self.folder.path / "metrics.csv", row)


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
            for batch in data.val_dataloader():
                with torch.no_grad():
                    loss = phase.compute(_on(batch, phase.device))
                total, count = total + loss.total.item(), count + loss.count
            losses[str(length)] = total / count
        phase.train(was_training)
        return losses


def _on(batch: Batch, device: torch.device) -> Batch:
    names = ("tokens_BT", "labels_BT", "positions_BT", "documents_BT")
    return replace(batch, **{name: getattr(batch, name).to(device) for name in names})
