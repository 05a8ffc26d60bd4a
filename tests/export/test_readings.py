"""Texts read layer by layer are what each alone says; what is changed is changed in its own reading only."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization import IntxUnpackedToInt8Tensor

from phi3kit.export import Program
from phi3kit.export.activation_step import Trials
from phi3kit.export.readings import Change, Reading, Rebuilt, read
from phi3kit.model import GroupedQueryAttention
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.testing import tiny


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(96, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def floating(**options) -> Program:
    """Nothing of it is rounded, so that it says the same however its ids are read."""
    return Program(tiny.net(attention=partial(GroupedQueryAttention, window=7)), 32, "float", **options)


def quantized() -> Program:
    net = tiny.net(attention=partial(GroupedQueryAttention, window=7))
    Int8DynamicInt4Weight().quantize(net)
    return Program(net, 32, "int8")


def forward(program: Program, given: list[int], start: int = 0) -> Tensor:
    """As a device does: all layers, then the next ids."""
    return torch.stack([program(torch.tensor([[i]]), torch.tensor([start + at]))[0] for at, i in enumerate(given)])


@pytest.mark.parametrize("at_end", ["fail", "slide"])
def test_each_says_what_it_says_alone(at_end):
    program = floating(at_end=at_end)
    longest = 32 if at_end == "fail" else 90  # three times what is remembered
    sequences = [ids(longest), ids(5, 1), ids(12, 2)]
    alone = [forward(program, each) for each in sequences]
    *found, last_TV = read(program, [*map(Reading, sequences), Reading(sequences[0], last=3)])
    for got_TV, wanted_TV in zip(found, alone, strict=True):
        torch.testing.assert_close(got_TV, wanted_TV, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last_TV, found[0][-3:], atol=1e-5, rtol=1e-5)


def test_a_reading_continues_the_one_before():
    program = floating()
    whole_TV = forward(program, ids(20))
    _, got_TV = read(program, [Reading(ids(12)), Reading(ids(20)[12:], start=12)])
    torch.testing.assert_close(got_TV, whole_TV[12:], atol=1e-4, rtol=1e-4)


def test_a_change_is_what_a_hook_on_the_whole_pass_gives():
    program = quantized()
    readings = [Reading(ids(9)), Reading(ids(14, 1))]
    layers = [m for m in program.net.modules() if isinstance(m, nn.Linear)]
    changes = [Change(number % 2, layer, lambda x_BTD: x_BTD * 1.5) for number, layer in enumerate(reversed(layers))]
    said = list(read(program, readings, changes))
    assert len(said) == len(readings) + len(changes) > 10
    for change, got_TV in zip(changes, said[len(readings) :], strict=True):
        hook = change.layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.5,))
        (wanted_TV,) = read(program, [readings[change.of]])
        hook.remove()
        assert torch.equal(got_TV, wanted_TV)
        assert not torch.equal(got_TV, said[change.of])
    for reading, got_TV in zip(readings, said, strict=False):
        assert torch.equal(got_TV, next(read(program, [reading])))


def test_a_matrix_is_rebuilt_once_for_all_texts(monkeypatch):
    program, rebuilt = quantized(), []
    original = IntxUnpackedToInt8Tensor.dequantize
    monkeypatch.setattr(
        IntxUnpackedToInt8Tensor, "dequantize", lambda matrix: (rebuilt.append(id(matrix.qdata)), original(matrix))[1]
    )
    list(read(program, [Reading(ids(6, seed)) for seed in range(5)], Trials(program, range(5), 20).changes))
    linear = [m for m in program.net.modules() if isinstance(m, nn.Linear)]
    assert len(rebuilt) == len(linear) + 1  # the embedding
    assert IntxUnpackedToInt8Tensor.dequantize(program.net.lm_head.weight).shape == program.net.lm_head.weight.shape


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr("phi3kit.export.readings.MOST", 0)
    matrix, memory = quantized().net.lm_head.weight, Rebuilt()
    with memory:
        first, second = matrix.dequantize(), matrix.dequantize()
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()


def test_what_is_remembered_goes_with_who_remembers():
    """At once, not when Python next looks for rings: 0.4 GB of every layer of phi-3-mini would wait for that."""
    matrix, memory = quantized().net.lm_head.weight, Rebuilt()
    with memory:
        gone = weakref.ref(matrix.dequantize())
    assert gone() is not None
    gc.disable()
    try:
        del memory
        assert gone() is None
    finally:
        gc.enable()


def test_in_pieces_it_is_the_same(monkeypatch):
    matrix = quantized().net.lm_head.weight
    whole = matrix.dequantize()
    monkeypatch.setattr("phi3kit.export.readings.PIECE", 5 * matrix.shape[1])
    with Rebuilt():
        assert torch.equal(matrix.dequantize(), whole)


def test_large_matrices_are_read_where_others_infer(monkeypatch):
    """Held-out text and questions are read in inference mode."""
    program, texts = quantized(), [Reading(ids(9)), Reading(ids(5, 1))]
    wanted = list(read(program, texts))
    monkeypatch.setattr("phi3kit.export.readings.PIECE", 5 * program.net.dims.hidden_size)
    with torch.inference_mode():
        assert all(torch.equal(got, said) for got, said in zip(read(program, texts), wanted, strict=True))
