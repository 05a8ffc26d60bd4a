"""GPTQ beside a slow reference that shares no code with it, and beside what it must beat."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from quantized_nets import output_error, rows_of_text, trained_net
from torch import nn

from phi3kit import UserError
from phi3kit.export.calibration import quantize_net
from phi3kit.measures import kl_divergence
from phi3kit.quantizers import GPTQ, Int8DynamicInt4Weight
from phi3kit.quantizers.compensation import compensated
from phi3kit.quantizers.gptq import stages
from phi3kit.quantizers.grid import LinearGrid
from phi3kit.testing import tiny


def correlated_inputs(count: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(width, width, generator=generator) / width**0.5
    return torch.randn(count, width, generator=generator) @ (mix + 0.3 * torch.eye(width))


def slow_reference(weight, moment, scales, group, damping):
    """Optimal brain quantization in a fixed order (arXiv 2208.11580, equation 3), one weight at a time in float64: the
    inverse over the remaining inputs is computed anew for every column."""
    weight, moment = weight.double().clone(), moment.double()
    rows, width = weight.shape
    moment = moment + damping * moment.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    integers = torch.zeros(rows, width, dtype=torch.int8)
    for column in range(width):
        inverse = torch.linalg.inv(moment[column:, column:])
        for row in range(rows):
            scale = float(scales[row, column // group])
            whole = min(7, max(-8, round(float(weight[row, column]) / scale)))
            integers[row, column] = whole
            error = weight[row, column] - whole * scale
            weight[row, column:] -= error / inverse[0, 0] * inverse[0]
    return integers


@pytest.mark.parametrize("group_size", [32, None])
def test_equals_the_slow_reference(group_size):
    x = correlated_inputs(400, 96)
    weight = torch.randn(6, 96, generator=torch.Generator().manual_seed(2))
    grid = LinearGrid(4, group_size)
    integers, scales = compensated(weight, x.t() @ x, grid, 0.01)
    wanted = slow_reference(weight, x.t() @ x, scales.float(), group_size or 96, 0.01)
    assert scales.dtype == torch.bfloat16
    assert int((integers != wanted).sum()) == 0
    assert integers.min() < -3
    assert integers.max() > 3


@pytest.mark.parametrize("group_size", [32, 64, None])
def test_outputs_change_less_than_with_plain_or_hqq(group_size):
    x = correlated_inputs(800, 128)
    fresh = correlated_inputs(1600, 128)[800:]
    layer = nn.Linear(128, 48, bias=False)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(3))
    error = {}
    for method in ("plain", "hqq"):
        error[method] = output_error(Int8DynamicInt4Weight(group_size, method=method), layer, fresh)
    fitted = copy.deepcopy(layer)
    GPTQ(group_size).quantize_block(fitted, "layers.0.mlp.up", lambda: iter([fitted(x)]))
    wanted = layer(fresh)
    error["gptq"] = float((fitted(fresh) - wanted).norm() / wanted.norm())
    assert 0.01 < error["gptq"] < 0.85 * min(error["plain"], error["hqq"]), error


def test_a_trained_net_loses_less_than_with_hqq():
    net, text = trained_net(), rows_of_text()
    heldout, wanted = text[-8:], {}
    with torch.no_grad():
        logits = [net(row[None])[0] for row in heldout]
        for quantizer in (
            GPTQ(head_bits=4),
            Int8DynamicInt4Weight(head_bits=4),
            Int8DynamicInt4Weight(head_bits=4, method="plain"),
        ):
            changed = copy.deepcopy(net)
            quantize_net(changed, quantizer, text[:32])
            got = [changed(row[None])[0] for row in heldout]
            wanted[quantizer.describe()["linear"]["method"]] = float(kl_divergence(torch.cat(logits), torch.cat(got)))
    assert 0 < wanted["gptq"] < wanted["hqq"], wanted
    assert wanted["gptq"] < wanted["plain"], wanted


def test_layers_that_read_the_same_input_are_one_stage():
    net = tiny.net()
    block = net.layers[0]
    x = torch.randn(1, 8, 32)
    rotation = net.position(torch.arange(8)[None])
    found = stages(block, "layers.0", lambda: iter([block(x, rotation, None, None)]))
    names = [[name.removeprefix("layers.0.") for name, _ in stage] for stage in found]
    assert names == [["self_attn.qkv_proj"], ["self_attn.o_proj"], ["mlp.gate_up_proj"], ["mlp.down_proj"]]
    twins = nn.ModuleList([nn.Linear(32, 4), nn.Linear(32, 4), nn.Linear(4, 4)])

    def run():
        yield twins[2](twins[0](x) + twins[1](x))

    assert [[name for name, _ in stage] for stage in stages(twins, "m", run)] == [["m.0", "m.1"], ["m.2"]]


def test_a_layer_no_text_reaches_is_rounded_too():
    block = nn.ModuleDict({"used": nn.Linear(32, 8), "idle": nn.Linear(32, 8)})
    GPTQ().quantize_block(block, "layers.0", lambda: iter([block["used"](correlated_inputs(64, 32))]))
    assert block["idle"].weight.target_dtype == block["used"].weight.target_dtype == torch.int4


def test_inputs_that_are_always_zero_or_too_few():
    x = correlated_inputs(10, 64)  # fewer tokens than inputs
    x[:, :40] = 0
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
    integers, scales = compensated(weight, x.t() @ x, LinearGrid(4, 32), 0.01)
    rounded = (weight[:, :32] / scales[:, :1].float()).round().clamp(-8, 7)
    assert torch.equal(integers[:, :32].float(), rounded)
    with pytest.raises(UserError, match="not finite"):
        compensated(weight, x.t() @ x * float("inf"), LinearGrid(4, 32), 0.01)


def test_without_text_it_is_refused():
    with pytest.raises(UserError, match=r"GPTQ fits weights to text and has none; give `calibration:`"):
        quantize_net(tiny.net(), GPTQ())
    with pytest.raises(UserError, match="block by block"):
        GPTQ().quantize(tiny.net())
    with pytest.raises(UserError, match="damping 0 does not work"):
        GPTQ(damping=0)


def test_description_is_json_and_names_the_method():
    described = GPTQ(group_size=128, head_bits=4).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["linear"]["method"] == described["head"]["method"] == "gptq"
    assert GPTQ().describe()["head"]["method"] == "plain"
