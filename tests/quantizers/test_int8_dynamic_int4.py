"""8da4w: what it does to a net, and what it refuses."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from phi3kit import UserError
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.records import Dims
from phi3kit.testing import tiny


def quantized(quantizer: Int8DynamicInt4Weight, net: nn.Module) -> nn.Module:
    done = copy.deepcopy(net)
    quantizer.quantize(done)
    return done


def relative_error(quantizer: Int8DynamicInt4Weight, net: nn.Module) -> float:
    ids = torch.arange(48)[None] % 96
    wanted = net(ids)
    return float((quantized(quantizer, net)(ids) - wanted).norm() / wanted.norm())


def test_linears_have_bfloat16_scales_and_embeddings_fp32():
    net = quantized(Int8DynamicInt4Weight(), tiny.net())
    for name, module in net.named_modules():
        if isinstance(module, nn.Embedding):
            assert module.weight.scale.dtype == torch.float32
            assert module.weight.target_dtype == torch.int8
        elif isinstance(module, nn.Linear) and name == "lm_head":
            assert module.weight.target_dtype == torch.int8
            assert tuple(module.weight.block_size) == (1, 32)
            assert module.weight.scale.shape == (96, 1)
        elif isinstance(module, nn.Linear):
            assert module.weight.scale.dtype == torch.bfloat16
            assert module.weight.target_dtype == torch.int4
            assert module.weight.activation_quantization == "int8_asym_per_token"


def test_more_bits_err_less():
    net = tiny.net()
    best = relative_error(Int8DynamicInt4Weight(), net)
    assert best < relative_error(Int8DynamicInt4Weight(embedding_bits=4), net)
    assert relative_error(Int8DynamicInt4Weight(embedding_bits=4), net) < relative_error(
        Int8DynamicInt4Weight(embedding_bits=2), net
    )


def test_hqq_fits_weights_better_than_plain():
    weight = tiny.net().layers[0].mlp.gate_up_proj.weight.detach()
    errors = {}
    for method in ("hqq", "plain"):
        net = quantized(Int8DynamicInt4Weight(method=method), tiny.net())
        errors[method] = float((net.layers[0].mlp.gate_up_proj.weight.dequantize() - weight).norm() / weight.norm())
    assert 0 < errors["hqq"] < errors["plain"] < 0.12


def test_a_tied_head_is_quantized_its_own_way():
    from phi3kit.model import Decoder, GatedMLP, GroupedQueryAttention, RoPE

    tied = Decoder(tiny.dims(), [GroupedQueryAttention], [GatedMLP], RoPE, tied=True).eval()
    net = quantized(Int8DynamicInt4Weight(embedding_bits=4), tied)
    assert net.embed_tokens.weight.target_dtype == torch.int4
    assert net.lm_head.weight.target_dtype == torch.int8
    assert torch.equal(tied.lm_head.weight, tied.embed_tokens.weight)
    error = (net.lm_head.weight.dequantize() - tied.lm_head.weight).abs().max()
    assert error < tied.lm_head.weight.abs().max() / 100


def test_description_is_json_and_names_the_bits():
    described = Int8DynamicInt4Weight(head_bits=4, embedding_bits=2).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["head"] == described["linear"]
    assert described["embedding"]["weight_bits"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_size": 16}, "group_size 16 does not work; XNNPACK wants a multiple of 32"),
        ({"group_size": 0}, "group_size 0 does not work"),
        ({"head_bits": 3}, "head_bits 3 does not work; use one of 4, 8"),
        ({"embedding_bits": 5}, "embedding_bits 5 does not work; use one of 2, 4, 8"),
        ({"embedding_group": 6}, "embedding_group 6 does not work"),
        ({"method": "gptq"}, "method 'gptq' does not work; use one of hqq, plain"),
    ],
)
def test_options_that_do_not_work(options, message):
    with pytest.raises(UserError, match=message):
        Int8DynamicInt4Weight(**options)


def test_a_width_that_does_not_divide_names_the_layer_and_what_fits():
    net = tiny.net(Dims(96, 64, 1, 4, intermediate_size=96))
    with pytest.raises(UserError, match=r"down_proj is 96 wide, not a multiple of group_size 64; group_size 32 fits"):
        Int8DynamicInt4Weight(group_size=64).quantize(net)
    assert type(net.lm_head.weight) is nn.Parameter, "refused, but something was quantized already"


def test_a_width_no_group_fits():
    net = tiny.net(Dims(96, 40, 1, 4, intermediate_size=64))
    with pytest.raises(UserError, match="no group_size fits every layer; make the net's widths multiples of 32"):
        Int8DynamicInt4Weight(embedding_group=8).quantize(net)
