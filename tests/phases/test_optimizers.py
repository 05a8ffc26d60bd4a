"""Any torch optimizer trains a net, or is refused in one line that names it."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from phi3kit import UserError
from phi3kit.phases.optimizers import make_optimizer, switch
from phi3kit.testing import tiny


def parameters() -> list[torch.nn.Parameter]:
    return list(tiny.net().parameters())


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (torch.optim.LBFGS, "LBFGS cannot train a net here: it evaluates the loss several times"),
        (torch.optim.SparseAdam, "SparseAdam cannot train a net here: it takes sparse gradients"),
        (torch.optim.Muon, "Muon refuses this net or its own options .*2D"),
        (partial(torch.optim.AdamW, lr=-0.1), "Invalid learning rate: -0.1"),
    ],
)
def test_those_that_cannot_are_refused_by_name(optimizer, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        make_optimizer(optimizer, parameters())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.AdamW,
        torch.optim.SGD,
        torch.optim.Adafactor,
        torch.optim.Rprop,
        torch.optim.NAdam,
        torch.optim.RAdam,
    ],
)
def test_weight_decay_falls_on_matrices_where_there_is_any(optimizer) -> None:
    made = make_optimizer(partial(optimizer, lr=1e-3), parameters())
    matrices, vectors = made.param_groups
    assert all(p.ndim >= 2 for p in matrices["params"])
    assert ("weight_decay" in vectors) == ("weight_decay" in made.defaults)
    assert vectors.get("weight_decay", 0.0) == 0.0
    for p in parameters():
        p.grad = torch.ones_like(p)
    made.step()


def test_muon_trains_what_has_matrices_alone() -> None:
    matrices = [p for p in parameters() if p.ndim == 2]
    assert len(make_optimizer(torch.optim.Muon, matrices).param_groups) == 2


def test_schedule_free_ones_hear_what_comes_next() -> None:
    class ScheduleFree(torch.optim.SGD):
        mode = ""

        def train(self) -> None:
            self.mode = "train"

        def eval(self) -> None:
            self.mode = "eval"

    made, plain = ScheduleFree(parameters(), lr=0.1), torch.optim.SGD(parameters(), lr=0.1)
    switch([made, plain], "train")
    assert made.mode == "train"
    switch([made, plain], "eval")
    assert made.mode == "eval"
