"""The last positions of a context, reached without filling it: right programs agree, wrong ones are found."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from phi3kit.export import Program
from phi3kit.export.far import Far, check_far, read_far
from phi3kit.export.proof import runner_point
from phi3kit.export.readings import read
from phi3kit.model import GroupedQueryAttention, LongRoPE
from phi3kit.testing import tiny

CONTEXT, STEP = 200, 1e-3
LONG = partial(LongRoPE, short_factor=[1.0] * 4, long_factor=[1.5, 2, 3, 4], original_context=16)


def ids(count: int) -> list[int]:
    return torch.randint(96, (count,), generator=torch.Generator().manual_seed(0)).tolist()


def program(cache: str, window: int | None = None, context: int = CONTEXT) -> Program:
    torch.manual_seed(0)
    net = tiny.net(
        tiny.dims(context=2 * CONTEXT), position=LONG, attention=partial(GroupedQueryAttention, window=window)
    )
    return Program(net, context, cache)


def run(device: Program):
    """As a program is run."""
    return lambda given, start: device(torch.tensor([list(given)]), torch.tensor([start]))[0]


@pytest.mark.parametrize("window", [None, 21], ids=["full", "window"])
@pytest.mark.parametrize("cache", ["float", "int8"])
def test_a_right_program(cache, window):
    reference = program(cache, window)
    far = Far.of(ids(40), reference)
    assert (len(far.last), far.start + len(far.last)) == (24, CONTEXT)
    found = read_far(run(program(cache, window)), far)
    assert len(found) == 25
    check = check_far(found, list(read(program(cache, window), far.readings()))[-1], far, STEP)
    assert check["faults"] == []
    runner = {"tokens": 0, "prompts": 0, "differences": [], "faults": []}
    assert runner_point({"runner": runner, "far": check}).told[-1].startswith("the last positions, from 176 on: 24 ")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: run(program("float", window=30)),  # the mask
        lambda: lambda given, start: run(program("float", 21))(given, min(start, 100)),  # it forgets where it is
        lambda: lambda given, start: torch.full((96,), float("nan")),
    ],
)
def test_a_wrong_program_is_found_out(wrong):
    reference = program("float", 21)
    far = Far.of(ids(40), reference)
    wanted_TV = list(read(reference, far.readings()))[-1]
    check = check_far(read_far(wrong(), far), wanted_TV, far, STEP)
    assert check["faults"][0].startswith("logits at the last positions, from 176 on, differ by ")
