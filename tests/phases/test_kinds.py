"""A phase refuses data of another kind than it takes, whatever class the data has."""

from __future__ import annotations

import pytest
import torch

from phi3kit import UserError
from phi3kit.phases import DPO, Batches, ConversationBatches, NextToken, Phase, PreferenceBatches, TokenStream
from phi3kit.phases.kinds import check_kind
from phi3kit.phases.phase import Loss, Schedule
from phi3kit.testing import tiny


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


class Strange(Batches):
    """A stranger's data that says nothing; not final, on purpose."""

    def __init__(self) -> None:
        super().__init__(tiny.tokenizer(), 1, 0, 0, None)

    def samples(self, part):
        return []

    def collate(self, samples):
        raise NotImplementedError


class StrangePairs(Strange):
    gives = "pairs"


class Anything(Phase):
    """A stranger's phase that says nothing; not final, on purpose."""

    def compute(self, batch):
        return Loss(torch.zeros(()), 1, {})


def made(kind: type[Batches]) -> Batches:
    if issubclass(kind, Strange):
        return kind()
    return kind(tiny.tokenizer(), "a.jsonl", "b.jsonl", context=16, batch_size=1)


@pytest.mark.parametrize("data", [ConversationBatches, Strange])
def test_dpo_takes_pairs_alone(data: type[Batches]) -> None:
    dpo = DPO(tiny.net(), sgd)
    with pytest.raises(UserError, match=f"DPO needs pairs, and {data.__name__} gives texts; use .*PreferenceBatches"):
        check_kind(dpo, made(data))
    check_kind(dpo, made(PreferenceBatches))
    check_kind(dpo, StrangePairs())


@pytest.mark.parametrize("data", [PreferenceBatches, StrangePairs])
def test_next_token_takes_no_pairs(data: type[Batches]) -> None:
    with pytest.raises(UserError, match=f"NextToken needs texts, and {data.__name__} gives pairs; use .*TokenStream"):
        check_kind(NextToken(tiny.net(), sgd), made(data))
    assert TokenStream.gives == "texts"


def test_pairs_are_not_replayed() -> None:
    data = made(PreferenceBatches)
    data.replay = made(PreferenceBatches)
    with pytest.raises(UserError, match="replay needs texts"):
        check_kind(DPO(tiny.net(), sgd), data)


def test_a_phase_that_does_not_say_takes_any() -> None:
    phase = Anything(tiny.net(), sgd, Schedule())
    for data in (ConversationBatches, PreferenceBatches, Strange):
        check_kind(phase, made(data))
