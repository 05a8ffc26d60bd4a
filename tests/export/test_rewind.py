"""Going back to the end of a question: right in every cache that keeps all, and how far in one that slides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Tensor

from phi3kit import bundle
from phi3kit.executorch_runtime import LoadedProgram
from phi3kit.export import Program
from phi3kit.export.proof import runner_point
from phi3kit.export.rewind import Again, check_rewind, read_again
from phi3kit.model import GroupedQueryAttention
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.testing import tiny
from phi3kit.verbs import export
from phi3kit.verbs.export_order import source_of


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(96, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def eagerly(program: Program, given: Sequence[int], start: int) -> Tensor:
    return program.every_logit(list(given), start)[-1]


class Appends:
    """Reads on where it is, wherever it is told to read, as TextLLMRunner does; from 0 on it begins anew."""

    def __init__(self, forward) -> None:
        self.forward, self.position = forward, 0

    def __call__(self, given: Sequence[int], start: int) -> Tensor:
        self.position = self.position if start else 0
        found = self.forward(given, self.position)
        self.position += len(given)
        return found


def test_what_is_read_in_the_answers_place():
    again = Again.of([1, 2], [3, 4, 5], [6, 7], context=64, most=64)
    assert (again.answer, again.instead, again.ids) == ([3, 4, 5], [4, 5, 6, 7], [1, 2, 4, 5, 6, 7])
    assert Again.of([1, 2], [3, 4, 5], [6, 7], context=5, most=2) == ([1, 2], [3, 4], [4, 5, 6])


@pytest.mark.parametrize("window", [None, 7], ids=["full", "window"])
@pytest.mark.parametrize(("cache", "tolerance"), [("float", 1e-4), ("int8", 0.1)])
def test_a_cache_that_keeps_all_goes_back(cache, tolerance, window):
    net = tiny.net(attention=partial(GroupedQueryAttention, window=window))
    program = Program(net, 64, cache)
    asked = [Again(ids(15), ids(12, 1), ids(4, 2)), Again(ids(9, 3), ids(30, 4), ids(3, 5))]
    found = read_again(partial(eagerly, program), asked)
    check = check_rewind(found, program.every_logit, asked, tolerance)
    assert (check["back"], check["faults"]) == ([12, 30], [])
    check = check_rewind(read_again(Appends(partial(eagerly, program)), asked), program.every_logit, asked, tolerance)
    assert len(check["faults"]) == 2
    assert check["faults"][0].startswith("conversation 0: 12 tokens back and 4 on, logits differ by ")


@pytest.mark.parametrize(("back", "right"), [(1, True), (20, True), (21, True), (22, False), (40, False)])
def test_how_far_a_cache_that_slides_goes_back(back, right):
    """By what it reads at once (and one more): before that, tokens that are seen again have been written over."""
    program = Program(tiny.net(tiny.dims(context=256)), 20, "float", at_end="slide")
    assert program.step == 20
    asked = [Again(ids(50), ids(back, 1), ids(1, 2))]
    check = check_rewind(read_again(partial(eagerly, program), asked), program.every_logit, asked, 1e-4)
    assert bool(check["faults"]) is not right, check


def test_what_is_no_number_is_no_small_difference():
    check = check_rewind([torch.tensor([1.0, float("nan")])], lambda ids: torch.ones(1, 2), [Again([1], [2], [3])], 9.0)
    assert check["largest_difference"] == float("inf")
    assert check["faults"]


def test_a_program_that_does_not_go_back_is_found_out(tiny_bundle, tiny_run):
    found = bundle.read(tiny_bundle)
    (logits,) = (
        point["numbers"]
        for point in json.loads((tiny_bundle / "report.json").read_text())["verification"]["points"]
        if point["name"] == "logits"
    )
    reference = export.quantized(source_of(tiny_run), Int8DynamicInt4Weight(), None)
    forward = partial(LoadedProgram(found.model).read, step=reference.step)
    asked = [Again.of(ids(20), ids(8, 1), ids(12, 2), reference.context, reference.step)]
    for reads, holds in ((forward, True), (Appends(forward), False)):
        check = check_rewind(read_again(reads, asked), reference.every_logit, asked, logits["activation_step"])
        assert bool(check["faults"]) is not holds, check
        runner = {"tokens": 0, "prompts": 0, "differences": [], "faults": []}
        point = runner_point({"runner": runner, "rewind": check | {"slides": False}})
        assert point.status == ("passed" if holds else "failed")
        assert point.told[-1].startswith("going back by 8 tokens: logits within ")
