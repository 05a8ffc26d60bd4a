"""The program computes what the net does, eagerly and as a graph; its cache, its table of positions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from phi3kit import UserError
from phi3kit.export import Program, metadata, trace
from phi3kit.model import GroupedQueryAttention, LongRoPE
from phi3kit.testing import tiny

LONG = partial(LongRoPE, short_factor=[1.0] * 4, long_factor=[1.5, 2, 3, 4], original_context=16)


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(96, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize(("cache", "tolerance"), [("float", 1e-4), ("int8", 0.1)])
@pytest.mark.parametrize("window", [None, 7], ids=["full", "window"])
@pytest.mark.parametrize("pieces", [[40], [1] * 40, [13, 1, 1, 25]], ids=["once", "steps", "mixed"])
def test_equals_the_net(window, pieces, cache, tolerance):
    net = tiny.net(attention=partial(GroupedQueryAttention, window=window))
    whole = ids(40)
    wanted = net(torch.tensor([whole]))[0]
    assert wanted.std() > 10 * tolerance
    program, start = Program(net, 64, cache), 0
    for count in pieces:
        got = program(torch.tensor([whole[start : start + count]]), torch.tensor([start]))
        start += count
        torch.testing.assert_close(got[0], wanted[start - 1], atol=tolerance, rtol=1e-4)


def test_a_conversation_begun_again_does_not_see_the_one_before():
    program = Program(tiny.net(), 64)
    fresh = program.every_logit(ids(10))
    program.every_logit(ids(60, seed=1))
    torch.testing.assert_close(program.every_logit(ids(10)), fresh, atol=0, rtol=0)


def test_every_logit_continues_where_it_is_told():
    program = Program(tiny.net(), 64)
    whole = program.every_logit(ids(30))
    program.every_logit(ids(12))
    torch.testing.assert_close(program.every_logit(ids(30)[12:], start=12), whole[12:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("context", "used"), [(16, "short"), (17, "long"), (64, "long")])
def test_the_context_chooses_longropes_list(context, used):
    net = tiny.net(position=LONG)
    positions = torch.arange(10)[None]
    tables = {name: net.position.tables[name](positions).cos_BTR for name in ("short", "long")}
    program = Program(net, context)
    assert program.net.position.use == used
    assert torch.equal(program.net.position(positions).cos_BTR, tables[used])
    other = {"short": "long", "long": "short"}[used]
    assert not torch.equal(program.net.position(positions).cos_BTR, tables[other])


@pytest.mark.parametrize("cache", ["float", "int8"])
@pytest.mark.parametrize("window", [None, 21], ids=["full", "window"])
def test_the_graph_equals_the_program(window, cache):
    net = tiny.net(position=LONG, attention=partial(GroupedQueryAttention, window=window))
    program = Program(net, 64, cache)
    graph = trace(program).module()
    whole, start = ids(30), 0
    for count in (20, 1, 1, 8):  # the window ends where the third piece begins
        wanted = program.every_logit(whole[start : start + count], start)
        got = graph(torch.tensor([whole[start : start + count]]), torch.tensor([start]))
        torch.testing.assert_close(got[0], wanted[-1], atol=1e-5, rtol=1e-5)
        start += count


@pytest.mark.parametrize(("context", "kind"), [(1024, "float"), (1025, "int8")])
def test_long_contexts_are_kept_in_8_bits(context, kind):
    net = tiny.net(tiny.dims(context=2048))
    assert Program(net, context).cache.kind == kind
    assert Program(net, context, "float").cache.kind == "float"


def test_an_int8_cache_takes_a_quarter():
    sizes = {kind: sum(b.nbytes for b in Program(tiny.net(), 64, kind).cache.buffers()) for kind in ("float", "int8")}
    width = tiny.dims().head_width
    assert sizes["float"] == 64 * 2 * 2 * 2 * 4 * width  # tokens, layers, key/value heads, keys and values
    assert sizes["int8"] == 64 * 2 * 2 * 2 * (width + 5)


@pytest.mark.parametrize("cache", ["float", "int8"])
@pytest.mark.parametrize("window", [None, 9], ids=["full", "window"])
def test_a_sliding_conversation_remembers_the_last_tokens(window, cache):
    sizes = tiny.dims(context=256)
    build = partial(GroupedQueryAttention, window=20 if window is None else window)
    wanted_TV = tiny.net(sizes, attention=build)(torch.tensor([ids(160)]))[0]
    net = tiny.net(sizes, attention=partial(GroupedQueryAttention, window=window))
    program = Program(net, 20, cache, at_end="slide")
    assert (program.context, program.step) == (160, 20)
    got_TV = program.every_logit(ids(160))
    error_T = (got_TV - wanted_TV).norm(dim=1) / wanted_TV.norm(dim=1)
    assert error_T.max() < {"float": 1e-4, "int8": 0.1}[cache]
    graph, start = trace(program).module(), 0
    for count in (20, 1, 20, 20, 7, 1):
        got = graph(torch.tensor([ids(160)[start : start + count]]), torch.tensor([start]))[0]
        start += count
        torch.testing.assert_close(got, got_TV[start - 1], atol=0.02, rtol=1e-4)


def test_a_sliding_conversation_keeps_longropes_list():
    program = Program(tiny.net(position=LONG), 16, at_end="slide")
    assert program.net.position.use == "short"
    assert metadata(program, eos_ids=[7], bos_id=None)["get_max_seq_len"] == 16
    assert metadata(program, eos_ids=[7], bos_id=None)["get_max_context_len"] == 128


def test_attention_that_reads_its_cache_itself_needs_a_float_one():
    cache = Program(tiny.net(), 64, "int8").cache
    cache.begin(torch.tensor([0]), 1)
    with pytest.raises(UserError, match="use cache: float"):
        cache.append(0, torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 2, 8))


def test_append_returns_everything_so_far():
    cache = Program(tiny.net(), 64).cache
    keys = torch.randn(1, 5, 2, 8)
    cache.begin(torch.tensor([0]), 3)
    cache.append(0, keys[:, :3], keys[:, :3])
    cache.begin(torch.tensor([3]), 2)
    assert cache.length == 3
    stored, _ = cache.append(0, keys[:, 3:], keys[:, 3:])
    assert torch.equal(stored, keys)


def test_a_context_beyond_the_nets():
    with pytest.raises(UserError, match="context 65 does not fit; the net was trained for 64 tokens"):
        Program(tiny.net(), 65)


def test_beyond_the_context_is_an_error_not_garbage():
    program = Program(tiny.net(), 16)
    with pytest.raises(RuntimeError):
        program.every_logit(ids(17))


def test_metadata_is_what_the_runner_reads():
    found = metadata(Program(tiny.net(), 32), eos_ids=[7, 3], bos_id=None)
    assert found["get_eos_ids"] == [7, 3]
    assert found["get_max_seq_len"] == found["get_max_context_len"] == 32
    assert found["get_vocab_size"] == 96
    assert found["get_n_layers"] == 2
    assert found["enable_dynamic_shape"] is True
    assert found["use_kv_cache"] is True


@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_batch_of_one_computes_the_same(scale):
    net = tiny.net()
    for block in net.layers:
        mix = block.self_attn.mix
        block.self_attn.mix = replace(mix, scale=scale or mix.scale)
    wanted = net(torch.tensor([ids(20)]))[0]
    torch.testing.assert_close(Program(net, 64, form="batch of one").every_logit(ids(20)), wanted, atol=1e-4, rtol=1e-4)
