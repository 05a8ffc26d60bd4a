"""What keeps a layer in one piece for XNNPACK computes what the trained form does."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn

from phi3kit.export import Program, trace
from phi3kit.export import program as programs
from phi3kit.export.device import for_device
from phi3kit.export.lean_lowering import structure
from phi3kit.export.operators import delegate_calls
from phi3kit.export.products import means_as_products
from phi3kit.model import GatedMLP, GroupedQueryAttention, LayerNorm, LongRoPE, RMSNorm, RoPE
from phi3kit.model.position import rotate
from phi3kit.model.rows import apart
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.records import Dims
from phi3kit.testing import tiny

DIMS = Dims(96, 64, 2, 4, n_kv_heads=2, intermediate_size=128, context=64)
LONG = partial(LongRoPE, short_factor=[1.0] * 6, long_factor=[1.5, 2, 3, 4, 5, 6], original_context=16)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_norms(kind, size):
    net = nn.Sequential(kind(3072), nn.Linear(3072, 2))
    for number, parameter in enumerate(net[0].parameters()):
        parameter.data = numbers(3072, seed=number)
    x_BTD = size * (numbers(1, 5, 3072, seed=7) + 0.5)
    wanted = net[0](x_BTD)
    means_as_products(net)
    assert type(net[0]) is not kind
    torch.testing.assert_close(net[0](x_BTD), wanted, atol=2e-6, rtol=1e-5)


def test_a_norm_that_nobody_knows_stays():
    class Own(RMSNorm.__base__):
        def forward(self, x_BTD):
            return x_BTD

    net = nn.Sequential(Own())
    means_as_products(net)
    assert type(net[0]) is Own


@pytest.mark.parametrize("position", [RoPE, partial(RoPE, rotary_fraction=0.5), partial(LONG, rotary_fraction=0.75)])
def test_positions_turn_heads_by_a_product_exactly(position):
    positions_BT, x_BTHK = torch.tensor([[0, 1, 5, 40]]), numbers(1, 4, 4, 16)
    trained = position(DIMS)
    fixed = trained.fixed_for(64)
    again = fixed.fixed_for(64)
    wanted = rotate(x_BTHK, trained(positions_BT))
    for each in (fixed, again):
        rotation = each(positions_BT)
        assert all(torch.equal(rotate(x_BTHK, rotation), wanted) for _ in range(5))
        matrices = [next(each(positions_BT).turns_KK).data_ptr() for _ in range(2)]
        assert matrices[0] == matrices[1], "each pass begins with the first"
        assert len({next(rotation.turns_KK).data_ptr() for _ in range(9)}) == 2 * DIMS.n_layers


@pytest.mark.parametrize("bias", [False, True])
def test_rows_are_the_same_memory(bias):
    whole, x = nn.Linear(8, 12, bias=bias), numbers(3, 8)
    parts = apart(whole, [6, 4, 2])
    assert [part.weight.data_ptr() - whole.weight.data_ptr() for part in parts] == [0, 4 * 6 * 8, 4 * 10 * 8]
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())
    torch.testing.assert_close(torch.cat([part(x) for part in parts], -1), whole(x))


def test_parts_apart_are_rounded_as_whole():
    """Scales belong to a row, so it does not matter which matrix it is in."""
    for quantize_first in (True, False):
        net, quantizer = tiny.net(DIMS), Int8DynamicInt4Weight()
        quantizer.plan(net)
        if quantize_first:
            quantizer.quantize(net)
            for_device(net)
            wanted = net(torch.tensor([[5, 9, 1, 80]]))
        else:
            for_device(net)
            quantizer.quantize(net)
            assert torch.equal(net(torch.tensor([[5, 9, 1, 80]])), wanted)
    names = {name.removeprefix("layers.0.") for name, part in net.named_modules() if isinstance(part, nn.Linear)}
    attention = {f"self_attn.{of}_proj" for of in "qkvo"}
    assert {name for name in names if name.startswith(("self_attn", "mlp"))} == attention | {
        f"mlp.{of}_proj" for of in ("gate", "up", "down")
    }


def test_quantized_rows_have_memory_of_their_own():
    """ExecuTorch packs a 4-bit matrix from where its memory begins: a lowered net was wrong by two deviations."""
    net = tiny.net(DIMS)
    Int8DynamicInt4Weight().quantize(net)
    whole = net.layers[0].self_attn.qkv_proj
    for part in apart(whole, [64, 32, 32]):
        assert part.weight.qdata.storage_offset() == 0
        assert part.weight.qdata.untyped_storage().nbytes() == part.weight.qdata.nbytes
        assert part.weight.scale.storage_offset() == 0


def test_trained_parts_are_not_held():
    """Only the rows are: a float matrix is gone as soon as a quantizer has replaced them."""
    net = tiny.net(DIMS)
    attention, mlp = net.layers[0].self_attn, net.layers[0].mlp
    assert (type(attention), type(mlp)) == (GroupedQueryAttention, GatedMLP)
    for_device(net)
    inside = [*net.layers[0].self_attn.modules(), *net.layers[0].mlp.modules()]
    held = [value for module in inside for value in vars(module).values()]
    assert not {attention, mlp} & {*inside}
    assert not any(value is attention or value is mlp for value in held)
    assert not any(getattr(value, "__self__", None) in (attention, mlp) for value in held)


def test_shapes_alone_trace_the_same_graph(monkeypatch):
    def graph():
        net = tiny.net(DIMS)
        Int8DynamicInt4Weight().quantize(net)
        return structure(trace(Program(net, 64, "int8")))

    quick = graph()
    monkeypatch.setattr(programs, "shapes_alone", nullcontext)
    assert graph() == quick
    assert "torchao.dequantize_affine" in quick


def test_one_subgraph_for_each_layer(tiny_bundle):
    """What comes before the first layer's attention, between two layers', and after the last one's; and the head."""
    (model,) = tiny_bundle.glob("*.pte")
    assert delegate_calls(model) == {"forward": 4}
