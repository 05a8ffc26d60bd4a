"""The balance loss: what it is, that it evens out an uneven router, and that devices share their counts."""

from __future__ import annotations

import socket

import pytest
import torch
from phi3kit_moe.balance import balance_of
from phi3kit_moe.mixture import MixtureOfExperts
from phi3kit_moe.sparse_mixer import SparseMixer
from phi3kit_moe.top_k import TopK

from phi3kit.families import Routing
from phi3kit.testing import tiny

REAL = torch.ones(4, 100, dtype=torch.bool)


def routing_of(experts: list[list[int]], probabilities: list[list[float]]) -> Routing:
    chosen_NK = torch.tensor(experts)
    return Routing(torch.ones(chosen_NK.shape), chosen_NK, torch.tensor(probabilities))


def test_the_loss_is_k_where_all_is_even_and_more_where_it_is_not():
    even = routing_of([[0, 1], [2, 3]], [[0.25] * 4] * 2)
    assert balance_of(even, torch.ones(2, dtype=torch.bool)).loss.item() == pytest.approx(2.0)
    uneven = routing_of([[0, 1], [0, 1]], [[0.5, 0.3, 0.1, 0.1]] * 2)
    loss, load_E = balance_of(uneven, torch.ones(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(4 * (0.5 + 0.3))
    assert load_E.tolist() == [0.5, 0.5, 0.0, 0.0]


def test_padding_counts_for_nothing():
    routing = routing_of([[0, 1], [2, 3]], [[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])
    loss, load_E = balance_of(routing, torch.tensor([True, False]))
    assert loss.item() == pytest.approx(4 * (0.7 + 0.1))
    assert load_E.tolist() == [0.5, 0.5, 0.0, 0.0]
    assert balance_of(routing, torch.tensor([False, False])).loss.item() == 0.0


def uneven_layer(router: type, coefficient: float) -> tuple[MixtureOfExperts, torch.Tensor]:
    """Two of eight experts point where all tokens do."""
    torch.manual_seed(0)
    layer = MixtureOfExperts(tiny.dims(), 0, router, n_experts=8, balance=coefficient).train()
    x_BTD = torch.randn(4, 100, 32)
    x_BTD[..., 0] += 3.0
    with torch.no_grad():
        layer.router.gate.weight.mul_(0.5)[:2, 0] += 1.0
    return layer, x_BTD


def loads_after_training(router: type, coefficient: float, steps: int = 60) -> tuple[float, float]:
    """Share of the busiest and idlest expert, after steps that only see the balance loss."""
    layer, x_BTD = uneven_layer(router, coefficient)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(steps):
        layer(x_BTD)
        auxiliary = layer.auxiliary(REAL)
        optimizer.zero_grad()
        auxiliary.loss.backward()
        optimizer.step()
    layer(x_BTD)
    metrics = layer.auxiliary(REAL).metrics
    return metrics["busiest_expert"].item(), metrics["idlest_expert"].item()


@pytest.mark.parametrize("router", [SparseMixer, TopK])
def test_the_loss_evens_out_an_uneven_router(router):
    busiest, idlest = loads_after_training(router, 0.0)
    assert busiest > 0.4, "it was not uneven to begin with"
    evener, fuller = loads_after_training(router, 1.0)
    assert evener < 0.25
    assert fuller > idlest + 0.03


def test_the_loss_reaches_the_gate_and_nothing_else():
    layer, x_BTD = uneven_layer(SparseMixer, 1.0)
    layer(x_BTD)
    layer.auxiliary(REAL).loss.backward()
    assert layer.router.gate.weight.grad.abs().sum() > 0
    assert layer.gate_up_proj.grad is None
    assert layer.down_proj.grad is None


def test_a_copy_and_a_pickle_leave_the_last_pass_behind():
    import copy
    import pickle

    layer, x_BTD = uneven_layer(SparseMixer, 1.0)
    layer(x_BTD)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.auxiliary(REAL) is None
        assert torch.equal(other.gate_up_proj, layer.gate_up_proj)
    assert layer.auxiliary(REAL) is not None


def one_device(rank: int, port: int) -> None:
    """Each device sends its token to an expert of its own; together that is even."""
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    loss, load_E = balance_of(routing_of([[rank]], [[0.75, 0.25]]), torch.ones(1, dtype=torch.bool))
    assert load_E.tolist() == [0.5, 0.5]
    assert loss.item() == pytest.approx(2 * (0.5 * 0.75 + 0.5 * 0.25))
    torch.distributed.destroy_process_group()


def test_devices_balance_their_tokens_together():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(one_device, (port,), nprocs=2)
