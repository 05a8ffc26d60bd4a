"""SparseMixer-v2 against golden vectors and transformers' own function, draws and gradients included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from phi3kit_moe.sparse_mixer import SparseMixer, sparse_mixer
from phi3kit_moe.top_k import TopK

from phi3kit import UserError
from phi3kit.testing import tiny

# the spec sheet's golden vectors (section 7), jitter 0.01: scores -> weights, experts
GOLDEN = [
    ([5, 4.95, 4.8, 1], (0.512497, 1.0), (0, 1)),
    ([2, 1.99, 1, 0], (0.502500, 1.0), (0, 1)),
    ([-1, -1.01, -3, -5], (0.502500, 1.0), (0, 1)),
    ([0.3, 0.2999, 0.2998, -4], (0.333367, 0.500025), (0, 1)),
    ([3, 1, 0.5, -2], (1.0, 1.0), (0, 1)),
]


@pytest.mark.parametrize(("scores", "weights", "experts"), GOLDEN)
def test_golden_vectors_of_evaluation(scores, weights, experts):
    weights_NK, experts_NK = sparse_mixer(torch.tensor([scores]), 0.01, 2, sample=False)
    assert experts_NK.tolist() == [list(experts)]
    torch.testing.assert_close(weights_NK, torch.tensor([weights]), atol=1e-6, rtol=0)


@contextmanager
def fixed_draws(exponential: list[float], uniform: float) -> Iterator[None]:
    """Every sampled expert is the one with the smallest number; every uniform draw is `uniform`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "exponential_", lambda self: self.copy_(torch.tensor(exponential)))
        patch.setattr(torch, "rand_like", lambda x: torch.full_like(x, uniform))
        yield


def test_golden_vector_of_the_training_gradient():
    scores_NE = torch.tensor([[2.0, 1.99, 1.0, 0.0]], requires_grad=True)
    with fixed_draws([1.0, 1e-6, 1.0, 1.0], uniform=0.5):  # expert 1 is drawn, and a half step
        weights_NK, experts_NK = sparse_mixer(scores_NE, 0.01, 2, sample=True)
    assert experts_NK[0, 0] == 1
    assert weights_NK[0, 0].item() == pytest.approx(0.165817, abs=1e-6)
    weights_NK[0, 0].backward()
    torch.testing.assert_close(scores_NE.grad, torch.tensor([[-0.249994, 0.249994, 0, 0]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("uniform", "whole"), [(0.75, False), (0.76, True)])
def test_another_expert_than_the_likeliest_makes_a_whole_step_in_one_draw_of_four(uniform, whole):
    with fixed_draws([1.0, 1e-6, 1.0, 1.0], uniform):
        weights_NK, _ = sparse_mixer(torch.tensor([[2.0, 1.99, 1.0, 0.0]]), 0.01, 2, sample=True)
    assert weights_NK[0, 0].item() == pytest.approx(0.4975 * (1.0 if whole else 0.3333), abs=1e-5)


@contextmanager
def as_transformers_draws() -> Iterator[None]:
    """transformers draws a uniform number once too often in its second round (``rand_like(x).uniform_()``)."""
    real, calls = torch.rand_like, 0

    def rand_like(x):
        nonlocal calls
        calls += 1
        return real(x) if calls % 2 else real(x).uniform_()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand_like", rand_like)
        yield


@pytest.mark.parametrize("spread", [0.01, 0.5, 4.0])
@pytest.mark.parametrize("sample", [False, True])
def test_equals_transformers_with_the_same_draws(spread, sample):
    from transformers.models.phimoe.modeling_phimoe import sparsemixer

    ours_NE = (spread * torch.randn(500, 16, generator=torch.Generator().manual_seed(1))).requires_grad_()
    theirs_NE = ours_NE.detach().clone().requires_grad_()
    torch.manual_seed(7)
    with as_transformers_draws():
        weights_NK, experts_NK = sparse_mixer(ours_NE, 0.01, 2, sample)
    torch.manual_seed(7)
    wanted_NK, their_experts_NK = sparsemixer(theirs_NE, jitter_eps=0.01, training=sample)
    assert torch.equal(experts_NK, their_experts_NK)
    torch.testing.assert_close(weights_NK, wanted_NK, atol=1e-6, rtol=1e-6)
    slope_NK = torch.randn(500, 2, generator=torch.Generator().manual_seed(2))
    (weights_NK * slope_NK).sum().backward()
    (wanted_NK * slope_NK).sum().backward()
    torch.testing.assert_close(ours_NE.grad, theirs_NE.grad, atol=1e-6, rtol=1e-5)
    if sample:
        best_NK = ours_NE.topk(2).indices
        other = (experts_NK != best_NK).any(-1).float().mean().item()
        assert other > 0.02, "sampling chose the best two everywhere: nothing was tested"


def test_samples_come_from_the_softmax_over_the_experts_in_the_running():
    scores_NE = torch.tensor([[1.0, 0.99, 0.985, -2.0]]).expand(40000, 4)
    torch.manual_seed(0)
    _, experts_NK = sparse_mixer(scores_NE, 0.01, 1, sample=True)
    share_E = experts_NK.flatten().bincount(minlength=4) / 40000
    wanted_E = torch.cat((scores_NE[0, :3].softmax(-1), torch.zeros(1)))
    torch.testing.assert_close(share_E, wanted_E, atol=0.01, rtol=0)


def test_a_draw_of_zero_chooses_no_expert_that_is_out():
    scores_NE = torch.tensor([[5.0, 1.0, 0.5, 0.0]])
    with fixed_draws([1.0, 0.0, 0.0, 0.0], uniform=0.5):  # -log 0 is infinite, and -inf + inf is not a number
        _, experts_NK = sparse_mixer(scores_NE, 0.01, 2, sample=True)
    assert experts_NK.tolist() == [[0, 1]]


def test_renormalised_top_two_is_another_router():
    """What mlx-lm and llama.cpp compute (softmax, top 2, sum 1) is about half of SparseMixer's weights."""
    dims = tiny.dims()
    mixer, plain = SparseMixer(dims, 16).eval(), TopK(dims, 16, renormalise=True).eval()
    with torch.no_grad():
        mixer.gate.weight.normal_(std=2 * dims.hidden_size**-0.5, generator=torch.Generator().manual_seed(0))
        plain.gate.weight.copy_(mixer.gate.weight)
        x_ND = torch.randn(4000, dims.hidden_size, generator=torch.Generator().manual_seed(1))
        ours, theirs = mixer(x_ND), plain(x_ND)
    assert torch.equal(ours.experts_NK, theirs.experts_NK)
    torch.testing.assert_close(theirs.weights_NK.sum(-1), torch.ones(4000))
    assert ours.weights_NK.sum(-1).mean().item() == pytest.approx(1.94, abs=0.03)  # the sheet, section 2.4


def test_top_k_without_renormalising_gives_the_softmax_itself():
    router = TopK(tiny.dims(), 8, chosen=3, renormalise=False)
    routing = router(torch.randn(50, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(routing.weights_NK, routing.probabilities_NE.gather(-1, routing.experts_NK))
    assert torch.equal(routing.experts_NK, routing.probabilities_NE.topk(3).indices)


@pytest.mark.parametrize("router", [SparseMixer, TopK])
@pytest.mark.parametrize("chosen", [0, 9])
def test_more_chosen_than_there_are_is_refused(router, chosen):
    with pytest.raises(UserError, match=f"{router.__name__}: {chosen} chosen of 8 experts; give 1 to 8"):
        router(tiny.dims(), 8, chosen=chosen)


@pytest.mark.parametrize("router", [SparseMixer, TopK])
def test_the_gate_keeps_its_precision_under_autocast(router):
    gate = router(tiny.dims(), 8).eval()
    x_ND = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        under = gate(x_ND)
    assert torch.equal(under.probabilities_NE, gate(x_ND).probabilities_NE)
