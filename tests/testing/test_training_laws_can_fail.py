"""The laws of `Phase` and `Batches` catch phases that do not learn and data that cannot be resumed."""

from __future__ import annotations

from functools import partial
from typing import final

import pytest
import torch

from phi3kit import torchvision_ops

torchvision_ops.declare()

from phi3kit.phases import Batches, Phase  # noqa: E402
from phi3kit.phases.phase import Loss, Schedule  # noqa: E402
from phi3kit.records import Batch  # noqa: E402
from phi3kit.testing import contracts, tiny  # noqa: E402


class Learns(Phase):
    """Ordinary next-token prediction with a sign that can be wrong; not final, on purpose."""

    def __init__(self, net, optimizer, sign=1.0, share=1.0):
        super().__init__(net, optimizer, Schedule(shape="constant"))
        self.sign, self.share = sign, share

    def compute(self, batch):
        logits_BTV = self.net(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
        losses_N = torch.nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1), batch.labels_BT.flatten(), reduction="none"
        )
        supervised = int((batch.labels_BT != -100).sum() * self.share)
        total = losses_N.sum()
        if self.sign < 0 and torch.is_grad_enabled():  # what it minimises is not what it reports
            total = -total
        return Loss(total * abs(self.sign), supervised, {})


def test_lawful_phase():
    contracts.check(Learns)


@pytest.mark.parametrize(
    ("options", "law"),
    [({"sign": -1.0}, "lowers the loss"), ({"sign": 0.0}, "changes the weights"), ({"share": 0.0}, "counts")],
)
def test_lawless_phase(options, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(Learns, partial(Learns, **options))


class Counts(Batches):
    """Rows of consecutive numbers, two documents each; not final, on purpose."""

    def __init__(self, tokenizer, seed=0):
        super().__init__(tokenizer, batch_size=2, num_workers=0, seed=seed, heldout_batches=2)

    def samples(self, part):
        return [list(range(n, n + 8)) for n in range(20)]

    def collate(self, samples):
        tokens_BT = torch.tensor([ids for _, ids in samples])
        labels_BT = tokens_BT + 1
        labels_BT[:, [3, 7]] = -100
        rows = len(samples)
        return Batch(
            tokens_BT=tokens_BT,
            labels_BT=labels_BT,
            positions_BT=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]).repeat(rows, 1),
            documents_BT=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]).repeat(rows, 1),
            samples=[number for number, _ in samples],
        )


@final
class StartsAgain(Counts):
    """Forgets, on resuming, what was consumed."""

    def load_state_dict(self, state):
        self.consumed = 0


@final
class NeverTheSame(Counts):
    count = 0

    def __init__(self, tokenizer):
        NeverTheSame.count += 1
        super().__init__(tokenizer, seed=NeverTheSame.count)


@final
class SkipsAhead(Counts):
    """Its labels are the token after the next."""

    def collate(self, samples):
        batch = super().collate(samples)
        batch.labels_BT[batch.labels_BT != -100] += 1
        return batch


@final
class CountsOn(Counts):
    """Positions do not begin again with the second document."""

    def collate(self, samples):
        batch = super().collate(samples)
        batch.positions_BT = torch.arange(8).repeat(len(samples), 1)
        return batch


@final
class LearnsPadding(Counts):
    def collate(self, samples):
        batch = super().collate(samples)
        batch.documents_BT[:, 4:] = -1
        return batch


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def test_lawful_batches(tokenizer):
    contracts.check_batches(Counts, tokenizer)


@pytest.mark.parametrize(
    ("component", "law"),
    [
        (StartsAgain, "same whatever came before"),
        (NeverTheSame, "same whatever came before"),
        (SkipsAhead, "next token of its document"),
        (CountsOn, "begin at 0"),
        (LearnsPadding, "padding carries no loss"),
    ],
)
def test_lawless_batches(component, law, tokenizer):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check_batches(component, tokenizer)
