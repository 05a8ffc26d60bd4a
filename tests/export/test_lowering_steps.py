"""Lowering says how far it is: every step, in order, and each subgraph."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend

from phi3kit.export import XNNPACK
from phi3kit.export.lowering_steps import STEPS, followed


class Two(torch.nn.Module):
    """Two linear layers with something between that XNNPACK does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.cumsum(self.first(x), 1))


def test_every_step_is_told_in_order(tmp_path: Path) -> None:
    logging.getLogger("torch.__trace").handlers.clear()  # pytest's, for which torch writes all that it traces
    told: list[tuple[int, int, str]] = []
    original = XnnpackBackend.__dict__["preprocess"]
    with followed(lambda *said: told.append(said)):
        XNNPACK().write(torch.export.export(Two(), (torch.ones(2, 8),)), {}, tmp_path / "model.pte")
    assert XnnpackBackend.__dict__["preprocess"] is original
    steps = list(dict.fromkeys(name for _, _, name in told))
    each = [f"{what} subgraph {number} of 2" for what in ("cut out", "pack") for number in (1, 2)]
    assert steps == ["decompose operators", "edge dialect", "partition", *each, "plan memory", "write"]
    done = [share for share, whole, _ in told if whole == 100]
    assert done == sorted(done)
    assert {*STEPS.values()} <= set(done)
    assert (tmp_path / "model.pte").stat().st_size > 100
