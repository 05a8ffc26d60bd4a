"""The form of a mixture that goes to a device routes and computes as the trained one does."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from phi3kit_moe.device import DenseMixture
from phi3kit_moe.mixture import MixtureOfExperts
from phi3kit_moe.sparse_mixer import SparseMixer
from phi3kit_moe.top_k import TopK
from torch import nn

from phi3kit.export.device import for_device
from phi3kit.testing import tiny

ROUTERS = [SparseMixer, partial(SparseMixer, jitter=0.3, chosen=3), TopK, partial(TopK, renormalise=False)]


@pytest.mark.parametrize("router", ROUTERS, ids=["SparseMixer", "three close ones", "TopK", "Switch"])
@torch.no_grad()
def test_all_experts_weighted_are_the_chosen_ones(router):
    torch.manual_seed(0)
    trained = MixtureOfExperts(tiny.dims(), 0, router, n_experts=6).eval()
    x_BTD = torch.randn(3, 50, 32)
    wanted, routing = trained(x_BTD), trained.router(x_BTD.flatten(0, 1))
    form = trained.on_device()
    assert isinstance(form, DenseMixture)
    for got, same in zip(form.router(x_BTD.flatten(0, 1)), routing, strict=True):
        assert torch.equal(got, same)
    torch.testing.assert_close(form(x_BTD), wanted, atol=1e-5, rtol=1e-5)


def test_a_quantizer_finds_every_expert_and_not_the_gate():
    net = tiny.net(feed_forward=partial(MixtureOfExperts, router=SparseMixer, n_experts=4))
    parameters = sum(p.numel() for p in net.parameters())
    for_device(net)
    inside = {name for name, module in net.layers[0].mlp.named_modules() if isinstance(module, nn.Linear)}
    assert inside == {f"experts.{e}.{part}" for e in range(4) for part in ("gate_proj", "up_proj", "down_proj")}
    assert sum(p.numel() for p in net.parameters()) == parameters
    copied = copy.deepcopy(net)
    tokens_BT = tiny.batch().tokens_BT
    torch.testing.assert_close(copied(tokens_BT), net(tokens_BT))
