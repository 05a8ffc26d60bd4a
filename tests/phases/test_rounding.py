"""Weights in bfloat16 keep small steps on the mean, with any torch optimizer, and resume to the bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from phi3kit.phases.rounding import joined, keep_small_steps, split, stochastically_rounded, whole_precision

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW": {"lr": 1e-5, "weight_decay": 0.0}, "SGD": {"lr": 1e-5, "momentum": 0.5}, "RMSprop": {"lr": 1e-5},
    "Adam": {"lr": 1e-5, "amsgrad": True}, "NAdam": {"lr": 1e-5}, "Adafactor": {"lr": 1e-3}, "ASGD": {"lr": 1e-5},
}  # fmt: skip


def test_the_mean_of_what_is_rounded_is_exact_and_what_fits_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    for number in (1.0 + 2**-10, -(0.02 + 1e-6), 3e-39):
        wide = torch.full((200_000,), number)
        found = stochastically_rounded(wide, generator).float()
        assert len(found.unique()) == 2
        spread = float((found.max() - found.min()).double())
        assert abs(float(found.double().mean()) - float(wide[0].double())) < 0.01 * spread
        fits = wide.bfloat16()
        assert torch.equal(stochastically_rounded(fits.float(), generator), fits)


def weights_and(
    name: str, dtype: torch.dtype, first: int = 0
) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    """A matrix and a vector, and an optimizer over them whose next step is number `first`."""
    draw = torch.Generator().manual_seed(1)
    numbers = [(0.02 * torch.randn(shape, generator=draw)).bfloat16() for shape in ((64, 64), (64,))]
    parameters = [torch.nn.Parameter(number.to(dtype)) for number in numbers]
    optimizer = getattr(torch.optim, name)([{"params": [p]} for p in parameters], **OPTIMIZERS[name])
    step = iter(range(first, 10_000))
    keep_small_steps(optimizer, lambda: next(step))
    return parameters, optimizer


def train(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
    for number in steps:
        draw = torch.Generator().manual_seed(number)
        for p in parameters:
            p.grad = (1 + 0.1 * torch.randn(p.shape, generator=draw)).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_small_steps_arrive_on_the_mean(name: str) -> None:
    moved = {}
    for dtype in (torch.bfloat16, torch.float32):
        parameters, optimizer = weights_and(name, dtype)
        before = [p.detach().float().clone() for p in parameters]
        train(parameters, optimizer, range(30))
        assert all(p.dtype == dtype for p in parameters)
        kept = [v for state in optimizer.state.values() for v in state.values() if torch.is_tensor(v) and v.ndim]
        assert {value.dtype for value in kept} <= {dtype, torch.int8}
        found = whole_precision(optimizer, parameters[0])
        assert (found is None) == (dtype == torch.float32)
        step = (parameters[0].detach() if found is None else found) - before[0]
        moved[dtype] = float(step.mean())
        assert float((step != 0).float().mean()) > 0.95, "not some of the numbers, nearly all have moved"
    assert moved[torch.float32] < 0
    assert moved[torch.bfloat16] == pytest.approx(moved[torch.float32], rel=0.02)


def test_two_parts_of_a_number_are_the_number_to_24_bits() -> None:
    draw = torch.Generator().manual_seed(0)
    wide = torch.cat([torch.randn(100_000, generator=draw), torch.tensor([0.0, -0.0, 1.0, -2.0, 65504.0, 1e-30])])
    upper, lower = split(wide, draw)
    again = joined(upper, lower)
    assert torch.equal(again.bfloat16(), upper) or float((again.bfloat16() != upper).float().mean()) < 0.01
    assert bool(((again - wide).abs() <= wide.abs() * 2**-15).all())
    assert torch.equal(joined(*split(again, draw)), again)
    assert abs(float(((again - wide).double() / wide.abs().clamp(min=1e-30)).mean())) < 2**-20


def test_without_it_nothing_moves() -> None:
    parameters, _ = weights_and("AdamW", torch.bfloat16)
    before = parameters[0].detach().clone()
    train(parameters, torch.optim.AdamW(parameters, lr=1e-6, weight_decay=0.0), range(30))
    assert float((parameters[0] != before).float().mean()) < 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_goes_on_to_the_bit(name: str) -> None:
    whole, optimizer = weights_and(name, torch.bfloat16)
    train(whole, optimizer, range(8))
    part, optimizer = weights_and(name, torch.bfloat16)
    train(part, optimizer, range(4))
    state, numbers = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in part]
    again, optimizer = weights_and(name, torch.bfloat16, first=4)
    optimizer.load_state_dict(state)
    with torch.no_grad():
        for p, number in zip(again, numbers, strict=True):
            p.copy_(number)
    train(again, optimizer, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
