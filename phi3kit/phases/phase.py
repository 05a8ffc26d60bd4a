"""What every phase shares: a net, an optimizer with a schedule, and one loss to implement.

Special here: the loss of an optimizer step is the mean over *all* its supervised tokens (or pairs), also
under gradient accumulation and on several devices. A micro-batch contributes its sum; the gradient is divided
by the step's total just before the optimizer sees it. A step whose loss or gradient is not finite is not taken. And:
random draws (dropout, a router's sampling) are a pure function of the seed, the step and the device, so that a resumed
run draws what an uninterrupted one does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from phi3kit.bounds import NotNegative, Share
from phi3kit.errors import UserError
from phi3kit.families import Family
from phi3kit.model import Decoder, weights
from phi3kit.phases.finite import check_step
from phi3kit.phases.losses import token_losses
from phi3kit.phases.optimizers import make_optimizer, switch
from phi3kit.phases.rounding import keep_small_steps, whole_precision
from phi3kit.phases.sharding import shard
from phi3kit.records import Batch


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run, as a factor on the optimizer's own.

    Args:
        warmup_steps: optimizer steps of linear rise from 0.
        shape: how it falls from 1 to `floor` over the remaining steps.
        floor: the factor at the last step.
    """

    warmup_steps: NotNegative = 0
    shape: Literal["cosine", "linear", "constant"] = "cosine"
    floor: Share = 0.1

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise UserError(f"schedule.warmup_steps is {self.warmup_steps}; give 0 or more")
        if not 0 <= self.floor <= 1:
            raise UserError(f"schedule.floor is {self.floor}: a share of the optimizer's rate; give 0 to 1")

    def notes(self, total: int) -> list[str]:
        """What is odd about this schedule in a run of so many steps, a line each."""
        if total >= self.warmup_steps:
            return []
        return [
            f"the warm-up takes {self.warmup_steps} steps and the run has {total} steps: its learning rate "
            f"gets no higher than {total / self.warmup_steps:.0%} of the recipe's; lower "
            "phase.init_args.schedule.warmup_steps"
        ]

    def factor(self, step: int, total: int) -> float:
        """Factor for optimizer step `step` (0-based) of `total`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, total - 1 - self.warmup_steps))
        if self.shape == "constant":
            return 1.0
        fall = progress if self.shape == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return 1 - (1 - self.floor) * fall


@dataclass(frozen=True)
class Loss:
    """What a phase computes from one batch.

    Args:
        total: sum of the losses of everything counted, a scalar that carries the gradient.
        count: how many tokens or pairs were counted.
        metrics: means to show beside the loss.
    """

    total: Tensor
    count: int
    metrics: dict[str, Tensor]

    def mean(self) -> Tensor:
        """The loss per token or pair, without gradient."""
        return self.total.detach() / max(1, self.count)


class Phase(LightningModule, Family, ABC):
    """One phase of training. Built as ``Phase(net, **options)``. Law: it lowers the loss on a batch.

    `takes` says which `Batches` it can learn from; a phase that does not say takes any.

    Args:
        net: the model to train.
        optimizer: any torch optimizer; weight decay falls on matrices only, never on norms. Its steps on weights in
            bfloat16 are rounded stochastically.
        schedule: the learning rate over the run.
    """

    takes: ClassVar[str] = ""

    def __init__(
        self,
        net: Decoder,
        optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer],
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer = optimizer
        self.schedule = schedule
        self.grad_norm = torch.tensor(float("nan"))
        self.replay_weight = 1.0  # of replayed text beside the phase's own loss; `fit` sets it
        self._optimizer: torch.optim.Optimizer | None = None
        self._counted = 0
        self._total: Tensor | float = 0.0
        self._seed = 0

    @abstractmethod
    def compute(self, batch: Batch) -> Loss:
        """Loss of one batch, on the net as it is now."""

    def configure_model(self) -> None:
        """Shard the net where the strategy has a mesh of devices (FSDP2 by Lightning's `ModelParallelStrategy`).

        Nothing learned is in a buffer, and tables of positions grow on each device as its batches ask: DDP, which
        would send the first device's to all, is told to leave them alone.
        """
        buffers = [name for name, _ in self.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, buffers)
        if self._device_mesh is not None:
            shard(self.net, self._device_mesh)

    def on_train_start(self) -> None:
        self._seed = torch.initial_seed()
        switch(self.trainer.optimizers, "train")
        scheduler = self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        for group, rate in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
            group["lr"] = rate * self._factor(scheduler.last_epoch)  # a run made longer had another one at this step

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        trainer = self.trainer
        step = trainer.global_step * trainer.accumulate_grad_batches + index % trainer.accumulate_grad_batches
        drawn = self._seed * 1_000_003 + step * trainer.world_size + trainer.global_rank
        torch.manual_seed(drawn % 2**63)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self.compute(batch)
        self._counted += loss.count
        self._total = self._total + loss.total.detach().float()
        beside, metrics = self._auxiliary(batch)
        for name, value in {"loss": loss.mean(), **loss.metrics, **metrics}.items():
            self.log(f"train/{name}", value, batch_size=max(1, loss.count))
        if batch.replay is not None:
            beside = beside + self.replay_weight * self._replayed(batch.replay)
        total = loss.total + beside * loss.count
        return total * self.trainer.accumulate_grad_batches  # Lightning divides by it again

    def _replayed(self, batch: Batch) -> Tensor:
        """Mean loss per token of replayed text, with the layers' losses beside it."""
        loss = token_losses(self.net, batch).mean()
        self.log("train/replay_loss", loss.detach(), batch_size=1)
        return loss + self._auxiliary(batch)[0]

    def _auxiliary(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The layers' losses beside the phase's own, summed, and the mean of each metric over the layers."""
        found = list(self.net.auxiliaries(batch.documents_BT >= 0))
        total = sum((auxiliary.loss for auxiliary in found), start=torch.zeros((), device=self.device))
        names = dict.fromkeys(name for auxiliary in found for name in auxiliary.metrics)
        means = {name: torch.stack([a.metrics[name] for a in found if name in a.metrics]).mean() for name in names}
        return total, means

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        counted_total = torch.tensor([float(max(1, self._counted)), float(self._total)], device=self.device)
        counted, total = self.trainer.strategy.reduce(counted_total, reduce_op="mean")
        self._counted, self._total = 0, 0.0
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        torch._foreach_div_(gradients, counted)
        self.grad_norm = weights.whole(torch.nn.utils.get_total_norm(gradients))
        check_step(self.trainer, float(total / counted), float(self.grad_norm))

    def on_validation_epoch_start(self) -> None:
        switch(self.trainer.optimizers, "eval")

    def on_validation_epoch_end(self) -> None:
        if self.trainer.training:
            switch(self.trainer.optimizers, "train")

    def on_train_end(self) -> None:
        switch(self.trainer.optimizers, "eval")

    def on_fit_end(self) -> None:
        """As `on_train_end`, which a run that was at its last step already does not reach."""
        switch(self.trainer.optimizers, "eval")

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        if dataloader_idx:  # the replayed text's held-out rows come behind the phase's own
            losses_N = token_losses(self.net, batch)
            loss, names = Loss(losses_N.sum(), losses_N.numel(), {}), {"loss": "replay_loss"}
        else:
            loss, names = self.compute(batch), {}
        for name, value in {"loss": loss.mean(), **loss.metrics}.items():
            logged = f"heldout/{names.get(name, name)}"
            self.log(logged, value, batch_size=max(1, loss.count), sync_dist=True, add_dataloader_idx=False)

    def test_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, index, dataloader_idx)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.optimizer, [p for p in self.parameters() if p.requires_grad])
        self._optimizer = optimizer
        keep_small_steps(optimizer, lambda: (self._seed * 1_000_003 + self.trainer.global_step) % 2**63)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def widen(self, name: str) -> Tensor | None:
        """A parameter of the net as the optimizer knows it, where that is more precise than the net's bfloat16 and all
        of the net learned so. Of a run that is over: the optimizer's averages go."""
        own = dict(self.net.named_parameters())
        if self._optimizer is None or not all(p.requires_grad and p.dtype == torch.bfloat16 for p in own.values()):
            return None
        return whole_precision(self._optimizer, own[name])

    def _factor(self, step: int) -> float:
        return self.schedule.factor(step, self.trainer.max_steps)
