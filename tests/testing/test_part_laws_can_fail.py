"""The contracts catch norms, routers and vision encoders that break their family's laws, and say which law."""

from __future__ import annotations

from functools import partial
from typing import final

import pytest
import torch
from torch import nn

from phi3kit.families import Norm, Router, Routing, VisionEncoder
from phi3kit.model import LayerNorm, RMSNorm
from phi3kit.testing import contracts


class Bad(Norm):
    """RMSNorm with one thing done wrong; not final, on purpose."""

    def __init__(self, width):
        super().__init__()
        self.inner = RMSNorm(width)

    def forward(self, x_BTD):
        return self.inner(x_BTD)


@final
class Leaks(Bad):
    def forward(self, x_BTD):
        return self.inner(x_BTD) + 0.01 * self.inner(x_BTD).mean(1, keepdim=True)


@final
class Scales(Bad):
    def forward(self, x_BTD):
        return x_BTD * 0.5


@final
class Widens(Bad):
    def forward(self, x_BTD):
        return self.inner(x_BTD).float()


@pytest.mark.parametrize(
    ("component", "law"),
    [(Leaks, "each position alone"), (Scales, "does not see the scale"), (Widens, "keeps shape and dtype")],
)
def test_lawless_norm(component, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(component)


@pytest.mark.parametrize("component", [RMSNorm, LayerNorm])
def test_lawful_norm(component):
    contracts.check(component)


@final
class Best(Router):
    """The two best by softmax, right unless `fault` says otherwise."""

    def __init__(self, dims, n_experts, fault=""):
        super().__init__()
        self.fault = fault
        self.gate = nn.Linear(dims.hidden_size, n_experts, bias=False)
        self.spare = nn.Parameter(torch.ones(1)) if fault == "spare" else None

    def forward(self, x_ND):
        scores_NE = self.gate(x_ND)
        if self.fault == "together":
            scores_NE = scores_NE - scores_NE.mean(0)
        if self.fault == "draws":
            scores_NE = scores_NE + torch.rand_like(scores_NE)
        probabilities_NE = scores_NE.softmax(-1)
        weights_NK, experts_NK = probabilities_NE.topk(2, dim=-1)
        if self.fault == "same":
            experts_NK = experts_NK[:, :1].expand(-1, 2)
        if self.fault == "negative":
            weights_NK = -weights_NK
        if self.fault == "sum":
            probabilities_NE = 2 * probabilities_NE
        if self.fault == "shape":
            weights_NK = weights_NK[:, :1]
        return Routing(weights_NK, experts_NK, probabilities_NE)


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("together", "routed alone"),
        ("draws", "same every time"),
        ("spare", "reaches every parameter"),
        ("same", "different experts"),
        ("negative", "not negative"),
        ("sum", "sum to one"),
        ("shape", "K weights and K experts"),
    ],
)
def test_lawless_router(fault, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(Best, partial(Best, fault=fault))


def test_lawful_router():
    contracts.check(Best)


@final
class Averages(VisionEncoder):
    """One row per view: a projection of its mean colour; right unless `fault` says otherwise."""

    def __init__(self, dims, fault=""):
        super().__init__()
        self.fault = fault
        self.project = nn.Linear(3, dims.hidden_size)

    @property
    def view_size(self):
        return 8

    def count(self, grid):
        return 1 + grid[0] * grid[1] - (self.fault == "count")

    def forward(self, pictures):
        colours_V3 = pictures.pixels_VCYX.mean((2, 3))
        if self.fault == "mixes":
            colours_V3 = colours_V3 - colours_V3.mean(0)
        if self.fault == "blind":
            colours_V3 = torch.zeros_like(colours_V3)
        return self.project(colours_V3)


@pytest.mark.parametrize(
    ("fault", "law"), [("count", "as it counts"), ("mixes", "other images"), ("blind", "sees its views")]
)
def test_lawless_vision_encoder(fault, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(Averages, partial(Averages, fault=fault))


def test_lawful_vision_encoder():
    contracts.check(Averages)
