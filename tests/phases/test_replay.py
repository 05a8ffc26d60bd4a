"""Replayed text: its loss stands beside the phase's own, and its batches depend on the seed and their number alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning import Trainer
from test_optimizer_step import data, fresh_net, sgd

from phi3kit import Decoder
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.phases import DPO, Batches, ConversationBatches, NextToken, PreferenceBatches, Replay, Schedule
from phi3kit.phases.losses import token_losses
from phi3kit.phases.phase import Phase
from phi3kit.text import load_tokenizer

STEPS, WEIGHT = 3, 0.5


def with_replay(folder: Path, batch_size: int = 8) -> ConversationBatches:
    own = data(folder, batch_size)
    own.replay = replayed(folder, own.tokenizer)
    return own


def replayed(folder: Path, tokenizer: Tokenizer) -> ConversationBatches:
    chats = folder / "chat.jsonl"
    return ConversationBatches(tokenizer, chats, chats, context=30, batch_size=3, seed=7)


def trainer(steps: int = STEPS, accumulate: int = 1) -> Trainer:
    return Trainer(
        max_steps=steps, accumulate_grad_batches=accumulate, accelerator="cpu", logger=False, max_epochs=-1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


def trained(folder: Path, phase: Phase, batches: Batches) -> Decoder:
    phase.replay_weight = WEIGHT
    runs = trainer()
    runs.limit_val_batches = 0
    runs.fit(phase, batches)
    return phase.net


def test_a_step_minimises_own_loss_and_weighted_replay_loss(arithmetic: Path) -> None:
    found = trained(arithmetic, NextToken(fresh_net(), sgd, Schedule(shape="constant")), with_replay(arithmetic))
    net, batches = fresh_net(), with_replay(arithmetic)
    batches.trainer = trainer()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for batch in batches.train_dataloader():
        assert batch.replay is not None
        optimizer.zero_grad()
        (token_losses(net, batch).mean() + WEIGHT * token_losses(net, batch.replay).mean()).backward()
        optimizer.step()
    without = trained(arithmetic, NextToken(fresh_net(), sgd, Schedule(shape="constant")), data(arithmetic, 8))
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=2e-6, rtol=0, msg=name)
    assert any(float((without.state_dict()[n] - t).abs().max()) > 1e-3 for n, t in net.state_dict().items())


def test_own_batches_are_those_of_a_run_without_replay(arithmetic: Path) -> None:
    plain, both = data(arithmetic, 4), with_replay(arithmetic, 4)
    plain.trainer = both.trainer = trainer()
    for alone, beside in zip(plain.train_dataloader(), both.train_dataloader(), strict=True):
        assert alone.replay is None
        assert alone.tokens_BT.tolist() == beside.tokens_BT.tolist()
        assert alone.samples == beside.samples


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_replays_what_an_uninterrupted_one_does(arithmetic: Path, workers: int) -> None:
    whole, resumed = with_replay(arithmetic, 4), with_replay(arithmetic, 4)
    whole.trainer = resumed.trainer = trainer(6)
    resumed.num_workers = workers
    resumed.load_state_dict({"consumed": 4, "tokenizer": resumed.tokenizer.fingerprint})
    seen = [batch.replay.tokens_BT.tolist() for batch in whole.train_dataloader()]
    assert [batch.replay.tokens_BT.tolist() for batch in resumed.train_dataloader()] == seen[4:]
    assert seen[4] != seen[5]


def test_held_out_replay_is_measured_beside_the_phases_own_loss(arithmetic: Path) -> None:
    phase = NextToken(fresh_net(), sgd, Schedule(shape="constant"))
    batches = with_replay(arithmetic)
    found = {k: v for part in trainer().validate(phase, batches, verbose=False) for k, v in part.items()}
    with torch.no_grad():
        expected = torch.cat(
            [token_losses(phase.net, b) for b in replayed(arithmetic, batches.tokenizer).heldout_loader()]
        )
    assert found["heldout/replay_loss"] == pytest.approx(float(expected.mean()), abs=1e-5)
    assert found["heldout/loss"] == pytest.approx(found["heldout/replay_loss"], abs=1e-5)  # the same chats here


def test_pairs_take_replay_too(arithmetic: Path) -> None:
    pairs = arithmetic / "pairs.jsonl"
    pairs.write_text(
        '{"prompt": "1+1?", "chosen": "2", "rejected": "3"}\n{"prompt": "2+1?", "chosen": "3", "rejected": "2"}\n'
    )
    tokenizer = load_tokenizer(arithmetic / "tokenizer")
    batches = PreferenceBatches(tokenizer, pairs, pairs, context=64, batch_size=2)
    batches.replay = replayed(arithmetic, tokenizer)
    phase = DPO(fresh_net(), sgd, Schedule(shape="constant"))
    before = trainer().validate(phase, batches, verbose=False)[1]["heldout/replay_loss"]
    trained(arithmetic, phase, batches)
    assert trainer().validate(phase, batches, verbose=False)[1]["heldout/replay_loss"] < before


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_replays_nothing_is_refused(weight: float) -> None:
    with pytest.raises(UserError, match=r"replay\.weight"):
        Replay(lambda tokenizer: None, weight)  # type: ignore[arg-type, return-value]
