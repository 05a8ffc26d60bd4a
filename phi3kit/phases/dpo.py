"""Direct preference optimisation against a frozen copy of the net it starts from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor

from phi3kit.model import Decoder
from phi3kit.phases.losses import answer_log_probs, dpo_loss
from phi3kit.phases.phase import Loss, Phase, Schedule
from phi3kit.phases.sharding import shard
from phi3kit.records import Batch


@final
class DPO(Phase):
    """Prefer the chosen answer (arXiv 2305.18290). Rows come in pairs: chosen, rejected, chosen, …

    Held-out accuracy counts the pairs whose chosen answer is the likelier one; ``reward_accuracy`` those whose
    implicit reward is the higher.

    Args:
        net: the model to train; a frozen copy of it, as it is given, is the reference.
        optimizer: any torch optimizer.
        schedule: the learning rate over the run.
        beta: strength of the pull towards the reference (TRL: 0.1).
        likelihood_weight: adds this much of the chosen answers' mean negative log likelihood, which keeps
            their probability from falling with the rejected ones' (RPO, arXiv 2404.19733; 0: plain DPO).
    """

    takes = "pairs"

    def __init__(
        self,
        net: Decoder,
        optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer],
        schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
        beta: float = 0.1,
        likelihood_weight: float = 0.0,
    ) -> None:
        super().__init__(net, optimizer, schedule)
        self.beta = beta
        self.likelihood_weight = likelihood_weight
        self._reference: list[Decoder] = []  # in a list: not a submodule, so no checkpoint carries it

    @property
    def reference(self) -> Decoder:
        """The frozen net."""
        assert self._reference, "the reference is frozen when a trainer sets the phase up"
        return self._reference[0]

    def setup(self, stage: str) -> None:
        """Freeze the reference. Runs before a checkpoint is restored, so a resumed run has the same one."""
        if not self._reference:
            self._reference = [copy.deepcopy(self.net).requires_grad_(False).eval()]

    def configure_model(self) -> None:
        """The reference is sharded as the net is."""
        super().configure_model()
        if self._device_mesh is not None:
            shard(self.reference, self._device_mesh)

    def on_fit_start(self) -> None:
        self._reference = [self.reference.to(self.device)]

    def on_validation_start(self) -> None:
        self._reference = [self.reference.to(self.device)]

    def compute(self, batch: Batch) -> Loss:
        policy_B = answer_log_probs(self.net, batch)
        with torch.no_grad():
            reference_B = answer_log_probs(self.reference, batch)
        chosen_P, rejected_P = policy_B[0::2], policy_B[1::2]
        losses_P, rewards = dpo_loss(chosen_P, rejected_P, reference_B[0::2], reference_B[1::2], self.beta)
        if self.likelihood_weight:
            losses_P = losses_P - self.likelihood_weight * chosen_P / _answer_lengths(batch)[0::2]
        metrics = {
            "accuracy": _mean(chosen_P > rejected_P),
            "reward_accuracy": _mean(rewards.chosen_P > rewards.rejected_P),
            "reward_margin": _mean(rewards.chosen_P - rewards.rejected_P),
        }
        return Loss(losses_P.sum(), losses_P.numel(), metrics)


def _mean(values_P: Tensor) -> Tensor:
    return values_P.detach().float().mean()


def _answer_lengths(batch: Batch) -> Tensor:
    return (batch.labels_BT != -100).sum(-1)
