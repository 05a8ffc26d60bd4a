"""LongRoPE against the published numbers (phi-3-mini-128k, June 2024 weights)."""

from __future__ import annotations

import pytest
import torch

from phi3kit import Dims, UserError
from phi3kit.model import LongRoPE
from phi3kit.model.position import inverse_frequencies, magnitude

MINI = Dims(vocab_size=32064, hidden_size=3072, n_layers=1, n_heads=32, context=131072)


@pytest.mark.parametrize(
    ("context", "original", "expected"),
    [(131072, 4096, 1.1902380714238083), (131072, 8192, 1.1435437497937313), (131072, 2048, 1.243163121016122)],
)
def test_magnitude(context: int, original: int, expected: float) -> None:
    assert magnitude(context, original) == pytest.approx(expected, abs=1e-12)
    assert magnitude(original, original) == 1.0


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ([1.07, 1.12, 1.15], [0.93457939, 0.73696802, 0.59242790]),
        ([1.1, 1.1, 1.1], [0.90909091, 0.75036744, 0.61935643]),
    ],
)
def test_inverse_frequencies(factors: list[float], expected: list[float]) -> None:
    found = inverse_frequencies(96, 10000.0, [*factors, *[1.0] * 45])[:3]
    torch.testing.assert_close(found, torch.tensor(expected), atol=0, rtol=2e-7)


@pytest.mark.parametrize(("factor", "expected"), [(64.76, 1.870796e-6), (3.05, 3.972222e-5)])
def test_last_inverse_frequency(factor: float, expected: float) -> None:
    assert float(inverse_frequencies(96, 10000.0, [1.0] * 47 + [factor])[47]) == pytest.approx(expected, rel=1e-6)


def test_a_bundle_gets_one_list_chosen_by_its_context() -> None:
    dims = Dims(vocab_size=10, hidden_size=32, n_layers=1, n_heads=4, context=64)
    position = LongRoPE(dims, [1.0] * 4, [3.0] * 4, original_context=16)
    assert position.fixed_for(16).use == "short"
    long = position.fixed_for(17)
    assert long.use == "long"
    here = torch.tensor([[3]])
    assert torch.equal(long(here).cos_BTR, position(torch.tensor([[3, 40]])).cos_BTR[:, :1])
    assert not torch.equal(long(here).cos_BTR, position(here).cos_BTR)


def test_a_list_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(UserError, match=r"long_factor has 3 numbers; a rotary width of 96 needs 48"):
        LongRoPE(MINI, [1.0] * 48, [1.0] * 3, 4096)
