"""Next-token prediction: pretraining, long context and SFT. What the loss falls on is decided by the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import torch

from phi3kit.model import Decoder
from phi3kit.phases.losses import token_losses
from phi3kit.phases.phase import Loss, Phase, Schedule
from phi3kit.records import Batch


@final
class NextToken(Phase):
    """Predict the next token, wherever the batch's labels ask for it.

    With `TokenStream` this is pretraining: every token of packed documents. With `ConversationBatches` it is
    supervised fine-tuning: assistant turns only, their closing ``<|end|>`` included.

    Args:
        net: the model to train.
        optimizer: any torch optimizer.
        schedule: the learning rate over the run.
    """

    takes = "texts"

    def __init__(
        self,
        net: Decoder,
        optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer],
        schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(net, optimizer, schedule)

    def compute(self, batch: Batch) -> Loss:
        losses_N = token_losses(self.net, batch)
        return Loss(losses_N.sum(), losses_N.numel(), {})
