"""Weights of few bits whose layers take their inputs as they come."""

from __future__ import annotations

import json

import pytest
import torch

from phi3kit import UserError
from phi3kit.export import CoreML, Program, trace
from phi3kit.export.activation_step import rounds_its_input
from phi3kit.quantizers import WeightOnly
from phi3kit.records import Dims
from phi3kit.testing import tiny


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, "3-bit weights of a linear layer do not work; use 4 or 8"),
        ({"head_bits": 2}, "2-bit weights of a linear layer do not work; use 4 or 8"),
        ({"group_size": 48}, "group_size 48 does not work; use a multiple of 32"),
        ({"embedding_bits": 2}, "embedding_bits 2 does not work; use one of 4, 8"),
        ({"method": "gptq"}, "method 'gptq' does not work; use one of hqq, plain"),
    ],
)
def test_what_does_not_work_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        WeightOnly(**options)


def test_a_width_that_no_group_divides_is_named():
    net = tiny.net()
    with pytest.raises(UserError, match="not a multiple of group_size 64"):
        WeightOnly(group_size=64).plan(net)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"bits": 8, "head_bits": 8}, {"group_size": None}])
def test_a_layer_multiplies_its_own_input_by_rounded_weights(options):
    net = tiny.net()
    WeightOnly(**options).quantize(net)
    layer, x_1I = net.layers[0].mlp.down_proj, torch.randn(1, 64)
    assert not rounds_its_input(layer)
    torch.testing.assert_close(layer(x_1I), x_1I @ layer.weight.dequantize().T)


@pytest.mark.parametrize("options", [{}, {"bits": 8, "group_size": None, "embedding_group": None}])
def test_a_coreml_program_is_as_large_as_its_grids_say(options):
    dims = Dims(vocab_size=2048, hidden_size=256, n_layers=1, n_heads=4, n_kv_heads=2, intermediate_size=512, context=8)
    net, quantizer = tiny.net(dims), WeightOnly(**options)
    said = sum(quantizer.bytes(net).values())
    quantizer.quantize(net)
    written = len(CoreML().lower(trace(Program(net, 8, form="one token")), {}))
    assert said < written + 2048 * 256 // 32 * 2, "scales of the embedding are half of what eager ones are"
    assert written < said + 200_000, "the graph, and nothing else"


def test_it_describes_itself():
    said = json.loads(json.dumps(WeightOnly(bits=4, head_bits=8).describe()))
    assert (said["name"], said["activations"]) == ("4w", "as they come")
    assert (said["linear"]["method"], said["head"]["method"]) == ("hqq", "plain")
