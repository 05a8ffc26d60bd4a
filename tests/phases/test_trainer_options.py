"""Every option of Lightning's Trainer works as documented or is refused by name; schedules say what is odd."""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest
import torch
from lightning import Trainer

from phi3kit import UserError
from phi3kit.phases import Schedule
from phi3kit.phases.trainer import make_trainer
from phi3kit.phases.trainer_options import ALSO, INSTEAD, check_options


def options(**changes: Any) -> dict[str, Any]:
    defaults = {name: p.default for name, p in inspect.signature(Trainer.__init__).parameters.items() if name != "self"}
    return {**defaults, "max_steps": 10, "accelerator": "cpu", "devices": 1, **changes}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 1), ("min_epochs", 1), ("limit_train_batches", 1), ("limit_train_batches", 0.5),
        ("fast_dev_run", True), ("overfit_batches", 2), ("check_val_every_n_epoch", 2), ("num_sanity_val_steps", 2),
        ("reload_dataloaders_every_n_epochs", 1), ("enable_checkpointing", True), ("enable_checkpointing", False),
        ("barebones", True), ("limit_predict_batches", 3),
    ],
)  # fmt: skip
def test_what_a_run_does_not_follow_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"trainer.{name} is {value!r}.*leave it out"):
        check_options(options(**{name: value}))


def test_defaults_and_what_is_done_anyway_are_not() -> None:
    check_options(options())
    for name, values in ALSO.items():
        for value in values:
            check_options(options(**{name: value}))
    assert set(ALSO) <= set(INSTEAD) <= set(options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": -5}, r"lacks trainer\.max_steps.*it is -5"),
        ({"max_steps": -1}, r"lacks trainer\.max_steps: how many optimizer steps to train$"),
        ({"devices": 99_999}, f"trainer.devices is 99999, and this machine has {os.cpu_count()} processor cores"),
        ({"devices": "99999"}, "trainer.devices is 99999"),
        ({"gradient_clip_val": -1.0}, "trainer.gradient_clip_val is -1.0"),
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches is 0"),
        ({"precision": "16-true"}, "use 16-mixed or bf16-true"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options(options(**changes))


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here() -> None:
    with pytest.raises(UserError, match=r"trainer\.accelerator is gpu, and there is none here; use cpu"):
        check_options(options(accelerator="gpu"))


def test_lightnings_own_refusals_are_one_line() -> None:
    for changes in ({"strategy": "no_such"}, {"accelerator": "abacus"}, {"plugins": ["no_such"]}):
        with pytest.raises(UserError, match=r"^trainer: ") as told:
            make_trainer(options(**changes), [], False)
        assert "\n" not in str(told.value)


def test_a_warm_up_longer_than_the_run_is_said() -> None:
    (note,) = Schedule(warmup_steps=100).notes(10)
    assert note.startswith("the warm-up takes 100 steps and the run has 10 steps")
    assert "10%" in note
    assert Schedule(warmup_steps=100).notes(100) == []


@pytest.mark.parametrize(("changes", "name"), [({"warmup_steps": -1}, "warmup_steps"), ({"floor": 5.0}, "floor")])
def test_schedules_out_of_bounds_are_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match=f"schedule.{name} is {next(iter(changes.values()))}"):
        Schedule(**changes)
