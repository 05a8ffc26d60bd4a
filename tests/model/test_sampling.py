"""Sampling: greedy at 0, the nucleus, frequencies, seeds."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from phi3kit import UserError
from phi3kit.model.sampling import Sampler

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


@pytest.mark.parametrize("options", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_what_makes_no_sense(options):
    with pytest.raises(UserError):
        Sampler(**options)
