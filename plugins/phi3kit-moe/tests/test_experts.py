"""The three ways through the chosen experts are one function, do their work only, and repeat to the bit."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from phi3kit_moe import experts
from phi3kit_moe.mixture import MixtureOfExperts
from phi3kit_moe.sparse_mixer import SparseMixer

from phi3kit.testing import tiny
from phi3kit.testing.law import random_normal

TOKENS, CHOSEN, EXPERTS, WIDTH, INNER = 60, 2, 8, 32, 48
WAYS = [experts.by_expert, experts.grouped, experts.gathered]


def inputs(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """x, weights, experts (the last two are never chosen), gate_up, down."""
    generator = torch.Generator().manual_seed(0)
    chosen_NK = torch.rand(TOKENS, EXPERTS - 2, generator=generator).topk(CHOSEN).indices
    x_ND, weights_NK = random_normal(TOKENS, WIDTH), torch.rand(TOKENS, CHOSEN, generator=generator)
    gate_up_EJD, down_EDI = (
        random_normal(EXPERTS, 2 * INNER, WIDTH, seed=1),
        random_normal(EXPERTS, WIDTH, INNER, seed=2),
    )
    floats = [t.to(dtype).requires_grad_() for t in (x_ND, weights_NK, gate_up_EJD / 6, down_EDI / 7)]
    return [*floats[:2], chosen_NK, *floats[2:]]


def token_by_token(x_ND, weights_NK, experts_NK, gate_up_EJD, down_EDI):
    """The definition, slowly: each token alone through each of its experts."""
    rows = []
    for x_D, weights_K, experts_K in zip(x_ND, weights_NK, experts_NK.tolist(), strict=True):
        row_D = torch.zeros_like(x_D)
        for weight, e in zip(weights_K, experts_K, strict=True):
            gate_I, up_I = gate_up_EJD[e][:INNER] @ x_D, gate_up_EJD[e][INNER:] @ x_D
            row_D = row_D + weight * (down_EDI[e] @ (F.silu(gate_I) * up_I))
        rows.append(row_D)
    return torch.stack(rows)


def run(way, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Its output and the gradients of everything that has one."""
    given = inputs(dtype)
    out_ND = way(*given)
    slope_ND = random_normal(TOKENS, WIDTH, seed=3).to(dtype)
    leaves = [tensor for tensor in given if tensor.requires_grad]
    return [out_ND.detach(), *torch.autograd.grad(out_ND, leaves, slope_ND)]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_equals_the_definition_forwards_and_backwards(way):
    if way is experts.grouped:
        dtype, tolerance = torch.float32, 1e-5  # grouped_mm knows no float64
    else:
        dtype, tolerance = torch.float64, 1e-12
    for got, wanted in zip(run(way, dtype), run(token_by_token, dtype), strict=True):
        torch.testing.assert_close(got, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("way", WAYS)
def test_bfloat16_stays_close(way):
    for got, wanted in zip(run(way, torch.bfloat16), run(token_by_token, torch.float32), strict=True):
        assert got.dtype == torch.bfloat16
        error = (got.float() - wanted).norm() / wanted.norm()
        assert error < 0.01, f"relative error {error:.3g}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_every_time(way, dtype):
    trained = way is not experts.gathered  # which is for exports: threads add up its gradients in any order
    first = run(way, dtype)
    for _ in range(3):
        again = zip(run(way, dtype), first, strict=True)
        assert all(torch.equal(a, b) for a, b in (again if trained else [next(again)]))


def test_shares_of_the_work_hold_every_expert_with_rows_once():
    assert experts.shares([3, 0, 4, 9, 1], most=8) == [
        (slice(0, 7), [(0, slice(0, 3)), (2, slice(3, 7))]),
        (slice(7, 16), [(3, slice(0, 9))]),
        (slice(16, 17), [(4, slice(0, 1))]),
    ]
    assert experts.shares([0, 0], most=8) == []


def test_the_size_of_a_share_does_not_matter(monkeypatch):
    whole = run(experts.by_expert)
    for most in (0, 30):
        monkeypatch.setattr(experts, "TOGETHER", most)
        assert len(experts.shares([20] * 6, most)) == 6
        for got, wanted in zip(run(experts.by_expert), whole, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)


def test_experts_that_nobody_chose_have_a_gradient_of_zero():
    _, _, _, grad_gate_up_EJD, grad_down_EDI = run(experts.by_expert)
    for grad in (grad_gate_up_EJD, grad_down_EDI):
        assert [bool(g.any()) for g in grad] == [True] * (EXPERTS - 2) + [False] * 2


def test_frozen_experts_pass_the_gradient_on():
    given = inputs()
    given[3], given[4] = given[3].detach(), given[4].detach()
    out_ND = experts.by_expert(*given)
    grad_x_ND, _ = torch.autograd.grad(out_ND, given[:2], random_normal(TOKENS, WIDTH, seed=3).double())
    torch.testing.assert_close(grad_x_ND, run(token_by_token)[1])


def test_the_work_is_that_of_the_chosen_experts():
    """Counted: 2 of 16 experts cost an eighth of all 16, forwards and backwards."""
    from torch.utils.flop_counter import FlopCounterMode

    def flops(chosen: int) -> int:
        layer = MixtureOfExperts(tiny.dims(), 0, partial(SparseMixer, chosen=chosen)).train()
        with FlopCounterMode(display=False) as counter:
            layer(random_normal(2, 100, 32)).sum().backward()
        gate = 3 * 2 * 200 * 32 * 16  # its product and the two of its gradient
        return counter.get_total_flops() - gate

    sixteen, two = flops(16), flops(2)
    one_expert = 3 * 3 * 2 * 200 * 32 * 64  # three matrices; a product, and two of its gradient
    assert two == pytest.approx(2 * one_expert, rel=0.02)
    assert sixteen == pytest.approx(8 * two, rel=0.02)


@torch.no_grad()
def test_exports_for_any_number_of_tokens():
    net = tiny.net(feed_forward=partial(MixtureOfExperts, router=SparseMixer, n_experts=4))
    tokens_BT = tiny.batch(length=12).tokens_BT[:1]
    wanted = {length: net(tokens_BT[:, :length]) for length in (12, 5)}
    program = tiny.program(net, tokens_BT)
    for length, logits_BTV in wanted.items():
        torch.testing.assert_close(program.module()(tokens_BT[:, :length]), logits_BTV, atol=1e-4, rtol=1e-4)


def test_autocast_computes_experts_in_bfloat16_and_gradients_in_float32():
    layer = MixtureOfExperts(tiny.dims(), 0, SparseMixer, n_experts=4).train()
    x_BTD = random_normal(2, 10, 32)
    with torch.autocast("cpu", torch.bfloat16):
        out_BTD = layer(x_BTD)
    assert out_BTD.dtype == torch.bfloat16
    out_BTD.float().sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}


def test_input_jitter_is_drawn_once_and_only_in_training():
    quiet = MixtureOfExperts(tiny.dims(), 0, SparseMixer, n_experts=4)
    jittered = MixtureOfExperts(tiny.dims(), 0, SparseMixer, n_experts=4, input_jitter=0.01)
    jittered.load_state_dict(quiet.state_dict())
    x_BTD = random_normal(2, 10, 32)
    assert torch.equal(jittered.eval()(x_BTD), quiet.eval()(x_BTD))
    torch.manual_seed(5)
    got_BTD = jittered.train()(x_BTD)
    torch.manual_seed(5)
    noise_ND = torch.empty(20, 32).uniform_(0.99, 1.01)
    torch.testing.assert_close(got_BTD, quiet.train()(x_BTD * noise_ND.view_as(x_BTD)))
