"""The forms that go to a device compute what the trained parts do."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from phi3kit_blocksparse.attention import BlocksparseAttention, GroupedDenseAttention
from phi3kit_blocksparse.device import DeviceBlocksparse, sets
from phi3kit_blocksparse.feed_forward import GEGELUMLP
from phi3kit_blocksparse.pattern import Pattern

from phi3kit.export import Program, trace
from phi3kit.model import Decoder, LayerNorm, RoPE
from phi3kit.records import Dims

DIMS = Dims(vocab_size=96, hidden_size=64, n_layers=2, n_heads=8, n_kv_heads=4, intermediate_size=64, context=96)
SMALL = partial(BlocksparseAttention, block_size=4, local_blocks=2, vertical_stride=4)


def small(attention=SMALL) -> Decoder:
    torch.manual_seed(0)
    mlp = partial(GEGELUMLP, limit=0.5)
    options = {"norm": LayerNorm, "tied": True, "embedding_scale": 10.0, "logit_scale": 0.125, "unused_ids": [5, 90]}
    net = Decoder(DIMS, [attention, GroupedDenseAttention], [mlp], RoPE, init_std=0.2, **options).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


def ids(count: int) -> list[int]:
    return torch.randint(96, (count,), generator=torch.Generator().manual_seed(1)).tolist()


def test_phi3_smalls_heads_are_two_sets_of_four_patterns():
    (even, some), (odd, others) = sets(Pattern(heads=32, kv_heads=8, block=64, local=16, stride=8))
    assert (some, others) == ([0, 2, 4, 6], [1, 3, 5, 7])
    assert even.firsts == (7, 6, 5, 4)
    assert odd.firsts == (3, 2, 1, 0)
    assert even.reach == 1024


@pytest.mark.parametrize(
    "attention",
    [SMALL, partial(SMALL, homogeneous_heads=True), partial(SMALL, vertical_stride=8)],
    ids=["two sets", "homogeneous", "a set for each"],
)
@pytest.mark.parametrize("pieces", [[96], [5, 1, 1, 1, 40, *[1] * 20, 28]], ids=["once", "mixed"])
@pytest.mark.parametrize("cache", ["float", "int8"])
def test_a_program_equals_the_net(attention, pieces, cache):
    net = small(attention)
    whole = ids(96)
    wanted_TV = copy.deepcopy(net)(torch.tensor([whole]))[0]
    program, start, got = Program(net, 96, cache), 0, []
    for count in pieces:
        got.append(program.every_logit(whole[start : start + count], start))
        start += count
    used = [i for i in range(96) if i not in (5, 90)]
    tolerance = {"float": 1e-4, "int8": 0.15}[cache]
    torch.testing.assert_close(torch.cat(got)[:, used], wanted_TV[:, used], atol=tolerance, rtol=1e-4)
    assert (torch.cat(got)[:, [5, 90]] == torch.finfo(torch.float32).min).all()
    assert isinstance(net.layers[0].self_attn, DeviceBlocksparse)


def test_without_a_cache_it_computes_as_before():
    net, tokens_BT = small(), torch.tensor([ids(96), ids(96)])
    wanted = copy.deepcopy(net)(tokens_BT)
    Program(net, 96)
    torch.testing.assert_close(net(tokens_BT), wanted, atol=1e-4, rtol=1e-4)


def test_the_graph_chooses_between_all_and_the_pattern_as_the_program_does():
    program = Program(small(), 96, "int8")
    graph, whole = trace(program).module(), ids(96)
    for start, count in ((0, 8), (8, 1), (9, 50), (59, 1)):
        wanted = program.every_logit(whole[start : start + count], start)[-1]
        got = graph(torch.tensor([whole[start : start + count]]), torch.tensor([start]))[0]
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_nothing_is_gathered_or_split_between_two_attentions():
    """Each would cut a layer in two: XNNPACK takes neither where the number of tokens varies."""
    graph = trace(Program(small(), 96, "int8")).graph
    called = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert "aten.linear.default" in called
    assert not [name for name in called if name.startswith(("aten.index.", "aten.split", "aten.slice", "aten.chunk"))]
