"""Sampling: greedy at 0, the nucleus, frequencies, seeds."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from phi3kit import UserError
from phi3kit.model.sampling import Sampler, greedy

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def counts(sampler: Sampler, draws: int = 4000) -> Counter:
    return Counter(sampler(LOGITS) for _ in range(draws))


def test_zero_is_greedy():
    assert counts(Sampler(0.0), 20) == {0: 20}


def test_one_draws_from_the_model():
    found = counts(Sampler(1.0))
    assert found[0] == pytest.approx(2000, abs=160)
    assert found[3] == pytest.approx(200, abs=70)


def test_temperature_sharpens():
    assert counts(Sampler(0.5))[0] == pytest.approx(4000 * 0.25 / 0.365, abs=160)


def test_the_nucleus_is_the_fewest_ids_that_reach_top_p():
    assert set(counts(Sampler(1.0, top_p=0.8))) == {0, 1}
    assert set(counts(Sampler(1.0, top_p=0.81))) == {0, 1, 2}
    assert set(counts(Sampler(1.0, top_p=0.01), 20)) == {0}


def test_a_seed_repeats():
    first, second, other = Sampler(1.0, seed=1), Sampler(1.0, seed=1), Sampler(1.0, seed=2)
    draws = [[sampler(LOGITS) for _ in range(50)] for sampler in (first, second, other)]
    assert draws[0] == draws[1] != draws[2]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "options",
    [
        *({"temperature": -0.1}, {"temperature": NAN}, {"temperature": INF}),
        *({"top_p": 0.0}, {"top_p": 1.1}, {"top_p": NAN}, {"seed": 2**64}, {"seed": -(2**63) - 1}, {"seed": 10**400}),
    ],
)
def test_what_makes_no_sense(options):
    with pytest.raises(UserError):
        Sampler(**options)


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-3, 1.0, 1e300])
@pytest.mark.parametrize("top_p", [5e-324, 1e-12, 1.0])
def test_any_temperature_and_nucleus_pick_an_id_that_is_possible(temperature, top_p):
    logits = torch.tensor([-INF, 0.1, 90.0, -INF, 90.0])
    found = {Sampler(temperature, top_p, seed)(logits) for seed in range(30)}
    assert found <= ({1, 2, 4} if temperature > 1 else {2, 4})
    assert {Sampler(temperature, 1.0, seed)(torch.zeros(3)) for seed in range(60)} == {0, 1, 2}, "all equal"


def test_the_coldest_sampling_is_greedy():
    draw = torch.Generator().manual_seed(0)
    for scale in (1e-3, 1.0, 1e4):
        logits = scale * torch.randn(500, generator=draw)
        assert Sampler(1e-40)(logits) == Sampler(1.0, top_p=1e-40)(logits) == greedy(logits)


@pytest.mark.parametrize("logits", [[0.0, NAN, 1.0], [INF, 0.0], [-INF, -INF]])
@pytest.mark.parametrize("pick", [greedy, Sampler(1.0), Sampler(0.0)])
def test_logits_that_are_no_numbers_are_said(logits, pick):
    with pytest.raises(UserError, match="the model's logits are no numbers"):
        pick(torch.tensor(logits))
