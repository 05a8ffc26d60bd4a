"""One optimizer step is the mean over all its tokens, however it is split into micro-batches."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from phi3kit import Decoder, Dims
from phi3kit.model import GatedMLP, GroupedQueryAttention, RoPE
from phi3kit.phases import ConversationBatches, NextToken, Schedule
from phi3kit.phases.losses import token_losses
from phi3kit.text import load_tokenizer

STEPS = 4


def fresh_net() -> Decoder:
    torch.manual_seed(0)
    return Decoder(Dims(320, 32, 2, 4, 2, context=64), [GroupedQueryAttention], [GatedMLP], RoPE, init_std=0.1)


def sgd(parameters: list) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.5)


def data(folder: Path, batch_size: int) -> ConversationBatches:
    tokenizer = load_tokenizer(folder / "tokenizer")
    return ConversationBatches(
        tokenizer, folder / "chat.jsonl", folder / "chat.jsonl", context=30, batch_size=batch_size
    )


def trained(folder: Path, batch_size: int, accumulate: int) -> Decoder:
    phase = NextToken(fresh_net(), sgd, Schedule(shape="constant"))
    trainer = Trainer(
        max_steps=STEPS, accumulate_grad_batches=accumulate, accelerator="cpu", logger=False, max_epochs=-1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(phase, data(folder, batch_size))
    assert trainer.global_step == STEPS
    return phase.net


def plain_loop(folder: Path) -> Decoder:
    """The same steps in plain torch."""
    net, batches = fresh_net(), data(folder, 8)
    batches.trainer = Trainer(max_steps=STEPS, logger=False, accelerator="cpu", enable_checkpointing=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for batch in batches.train_dataloader():
        optimizer.zero_grad()
        token_losses(net, batch).mean().backward()
        optimizer.step()
    return net


@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 1), (4, 2), (1, 8)])
def test_accumulation_changes_nothing(arithmetic: Path, batch_size: int, accumulate: int) -> None:
    expected = plain_loop(arithmetic).state_dict()
    found = trained(arithmetic, batch_size, accumulate).state_dict()
    start = fresh_net().state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=2e-6, rtol=0, msg=name)
    assert any(float((start[n] - t).abs().max()) > 1e-2 for n, t in expected.items())


def test_schedule_rises_falls_and_ends_at_its_floor() -> None:
    schedule = Schedule(warmup_steps=4, shape="linear", floor=0.2)
    factors = [schedule.factor(step, 20) for step in range(20)]
    assert factors[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert factors[-1] == pytest.approx(0.2)
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert Schedule(shape="cosine", floor=0.1).factor(10, 21) == pytest.approx(0.55)


def test_norms_are_not_decayed(arithmetic: Path) -> None:
    phase = NextToken(copy.deepcopy(fresh_net()), lambda p: torch.optim.AdamW(p, weight_decay=0.3))
    phase.trainer = Trainer(max_steps=2, logger=False, accelerator="cpu", enable_checkpointing=False)
    groups = phase.configure_optimizers()["optimizer"].param_groups
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert len(groups[1]["params"]) == 5
