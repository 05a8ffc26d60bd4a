"""One rounding may send a token to another expert; that must not excuse what is wrong in a mixture's program."""

from __future__ import annotations

from functools import partial

import torch
from phi3kit_moe.mixture import MixtureOfExperts
from phi3kit_moe.sparse_mixer import SparseMixer
from torch import Tensor

from phi3kit.export import Program
from phi3kit.export.verify import USUALLY, Eager, Effort, Read, _check_logits
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.testing import tiny

CONTEXT = 64
EFFORT = Effort(prompts=3, forced=3, longest=24, moves=60, moved=3, end=None)


def program(noise: float) -> Program:
    """A quantized mixture, one of its weights moved by so much of its size before."""
    torch.manual_seed(0)
    net = tiny.net(feed_forward=partial(MixtureOfExperts, router=SparseMixer, n_experts=8)).eval().requires_grad_(False)
    weight = net.layers[1].self_attn.o_proj.weight
    weight += noise * weight.std() * torch.randn(weight.shape)
    made = Program(net, CONTEXT)
    Int8DynamicInt4Weight().quantize(made.net)
    return made


def sequences() -> list[list[int]]:
    choose = torch.Generator().manual_seed(1)
    return [torch.randint(96, (24,), generator=choose).tolist() for _ in range(3)]


def said(by: Program) -> list[Tensor]:
    return [by.every_logit(ids) for ids in sequences()]


@torch.no_grad()
def test_what_is_wrong_by_less_than_another_expert_is_found():
    right, asked = program(0.0), sequences()
    eager = Eager(right, asked, [], [*asked[0], 1], 1, None, EFFORT)
    assert eager.step.largest > 2 > 0.1 > eager.step.usual
    for noise, usually in ((0.0, True), (0.2, False)):
        logits = said(program(noise))
        check = _check_logits(Read(logits, [each[-1] for each in logits], logits[0][-1]), eager, asked)
        assert check["largest_difference"] <= eager.step.largest  # another expert would explain it
        assert (check["usual_difference"] <= USUALLY * eager.step.usual) is usually, check
        assert check["faults"] == [] if usually else "logits of most positions differ" in check["faults"][0]
