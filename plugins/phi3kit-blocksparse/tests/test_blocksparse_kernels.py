"""Every way to compute blocksparse attention against a dense mask, forward and backward."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from phi3kit_blocksparse import cached, flex, fused, pieces
from phi3kit_blocksparse.pattern import Pattern
from slow_phi3small import attention, mask_of
from torch.profiler import ProfilerActivity, profile

PATTERNS = [
    Pattern(8, 2, 4, 3, 8),
    Pattern(4, 2, 4, 2, 3),
    Pattern(6, 2, 4, 1, 2),
    Pattern(6, 1, 3, 2, 4, homogeneous=True),
    Pattern(3, 1, 4, 2, 8),
    Pattern(16, 4, 2, 2, 8),
]
SCALE, WIDTH = 0.3, 8


def numbers(pattern: Pattern, length: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = (pattern.heads, pattern.kv_heads, pattern.kv_heads)
    return [torch.randn(length, h, WIDTH, generator=generator, dtype=torch.float64) for h in heads]


def mask(pattern: Pattern, length: int) -> torch.Tensor:
    rule = {"block": pattern.block, "local": pattern.local, "stride": pattern.stride, "homo": pattern.homogeneous}
    return mask_of(length, pattern.heads, **rule)


def fused_equals_a_dense_mask(pattern: Pattern, length: int) -> None:
    inputs = [x.requires_grad_() for x in numbers(pattern, length)]
    out = fused.blocksparse(*(x[None] for x in inputs), pattern, SCALE)[0]
    wanted = attention(*inputs, mask(pattern, length), SCALE)
    torch.testing.assert_close(out, wanted, atol=1e-12, rtol=0)
    weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, right = (torch.autograd.grad((x * weight).sum(), inputs) for x in (out, wanted))
    for got, gradient in zip(found, right, strict=True):
        torch.testing.assert_close(got, gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize("length", [1, 5, 12, 13, 64, 90])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_fused_equals_a_dense_mask_with_gradients(pattern, length):
    fused_equals_a_dense_mask(pattern, length)


@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_size_of_the_pieces_changes_nothing(pattern, threads, monkeypatch):
    for name, size in {"NEAR": 2 * pattern.block, "FAR": 6, "KEYS": 5, "TOGETHER": threads}.items():
        monkeypatch.setattr(pieces, name, size)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    fused_equals_a_dense_mask(pattern, 90)


def peak(pattern: Pattern, length: int, *, backward: bool) -> int:
    """The most bytes that blocksparse attention holds at once beyond its inputs, as torch's allocator counts them."""
    inputs = [x[None].float().requires_grad_(backward) for x in numbers(pattern, length)]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        out = fused.blocksparse(*inputs, pattern, SCALE)
        if backward:
            out.backward(torch.ones_like(out))
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


@pytest.mark.parametrize("backward", [False, True])
def test_memory_is_that_of_the_results_and_little_more(backward, monkeypatch):
    """Room for one piece: no more for a longer document, less for a sparser pattern."""
    monkeypatch.setattr(pieces, "NEAR", 32)
    monkeypatch.setattr(pieces, "FAR", 64)

    def spare(pattern: Pattern, length: int) -> int:
        vectors = (8 + 8 + 8 + 2 + 2) if backward else 8  # out, its gradient, those of q, k and v
        logarithms = 8
        return peak(pattern, length, backward=backward) - 4 * length * (vectors * WIDTH + logarithms)

    pattern, sparser = Pattern(8, 2, 16, 4, 4), Pattern(8, 2, 16, 1, 64)
    assert 0 < spare(sparser, 512) < 0.7 * spare(pattern, 512) < 30_000
    assert spare(pattern, 1024) == spare(pattern, 512)


def test_fused_at_phi_3_smalls_geometry():
    """A row of its blocks, long enough for windows, spans and a block cut short; fp32."""
    pattern = Pattern(heads=32, kv_heads=8, block=64, local=16, stride=8)
    q, k, v = (x.float().requires_grad_() for x in numbers(pattern, 1700))
    dense = pattern.mask(1700, 1700)
    out, wanted = fused.blocksparse(q[None], k[None], v[None], pattern, SCALE)[0], attention(q, k, v, dense, SCALE)
    torch.testing.assert_close(out, wanted, atol=2e-5, rtol=0)
    found, right = (torch.autograd.grad(x.square().sum(), (q, k, v)) for x in (out, wanted))
    for got, gradient in zip(found, right, strict=True):
        torch.testing.assert_close(got, gradient, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("how", ["_in_place", "gathered"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_after_a_cache_equals_the_last_rows_of_the_whole(pattern, how, monkeypatch):
    monkeypatch.setattr(cached, "_in_place", getattr(cached, how))
    q, k, v = (x[None] for x in numbers(pattern, 77))
    whole = attention(q[0], k[0], v[0], mask(pattern, 77), SCALE)
    for new in (1, 3, pattern.block, 30):
        for length in (31, 40, 77):
            start = length - new
            out = cached.after_cache(q[:, start:length], k[:, :length], v[:, :length], pattern, SCALE)
            torch.testing.assert_close(out[0], whole[start:length], atol=1e-12, rtol=0)


@pytest.mark.parametrize("how", ["_in_place", "gathered"])
@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_step_reads_only_the_blocks_it_needs(pattern, new, how, monkeypatch):
    """Whatever else is in the cache may be NaN."""
    monkeypatch.setattr(cached, "_in_place", getattr(cached, how))
    length = 15 * pattern.block - 1 + (pattern.block < new)
    q, k, v = (x[None] for x in numbers(pattern, length))
    q = q[:, -new:]
    sound = cached.after_cache(q, k, v, pattern, SCALE)
    i = (length - 1) // pattern.block
    first = (length - new) // pattern.block
    poisoned = 0
    for g in range(pattern.kv_heads):
        heads = range(g * pattern.heads // pattern.kv_heads, (g + 1) * pattern.heads // pattern.kv_heads)
        needed = {j for head in heads for row in range(first, i + 1) for j in pattern.columns(head, row)}
        for j in set(range(i)) - needed:
            k[:, j * pattern.block : (j + 1) * pattern.block, g] = float("nan")
            v[:, j * pattern.block : (j + 1) * pattern.block, g] = float("nan")
            poisoned += 1
    assert poisoned or len({pattern.first(h) for h in range(pattern.heads)}) >= pattern.stride
    assert torch.equal(cached.after_cache(q, k, v, pattern, SCALE), sound)


def packed(pattern: Pattern) -> tuple[list[torch.Tensor], torch.Tensor, list[tuple[int, int, int]]]:
    """Two rows of several documents, padding at the end of the second."""
    rows = [numbers(pattern, 75, seed) for seed in (0, 1)]
    documents = torch.full((2, 75), -1)
    pieces = [(0, 0, 31), (0, 31, 33), (0, 33, 75), (1, 0, 50), (1, 50, 61)]
    for n, (row, start, stop) in enumerate(pieces):
        documents[row, start:stop] = n
    return [torch.stack(pair) for pair in zip(*rows, strict=True)], documents, pieces


def alone(inputs: list[torch.Tensor], pattern: Pattern, row: int, start: int, stop: int) -> torch.Tensor:
    return attention(*(x[row, start:stop] for x in inputs), mask(pattern, stop - start), SCALE)


def masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block_mask: object, scale: float) -> torch.Tensor:
    """What `flex_attention` computes, by its mask's rule: torch has no backward pass for it on a CPU."""
    place = torch.arange(q.shape[1])
    rule = torch.vmap(block_mask.mask_mod, (None, 0, None, None))
    mask = rule(0, torch.arange(q.shape[2]), place[:, None], place[None, :])
    return torch.stack([attention(*row, mask, scale) for row in zip(q, k, v, strict=True)])


@pytest.mark.parametrize("way", ["fused", "flex"])
def test_packed_documents_with_gradients(way, monkeypatch):
    monkeypatch.setattr(flex, "_flex", masked)
    pattern = PATTERNS[0]
    inputs, documents, pieces = packed(pattern)
    for x in inputs:
        x.requires_grad_()
    if way == "fused":
        out = fused.blocksparse(*inputs, pattern, SCALE, documents)
    else:
        out = flex.blocksparse(*inputs, pattern, SCALE, documents)
    total, weight = 0.0, torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for row, start, stop in pieces:
        wanted = alone(inputs, pattern, row, start, stop)
        torch.testing.assert_close(out[row, start:stop], wanted, atol=1e-12, rtol=0)
        total = total + (wanted * weight[row, start:stop]).sum()
    assert not out[1, 61:].any()
    found = torch.autograd.grad((out * weight).sum(), inputs)
    for got, gradient in zip(found, torch.autograd.grad(total, inputs), strict=True):
        torch.testing.assert_close(got, gradient, atol=1e-12, rtol=0)


def test_flex_on_packed_documents():
    inputs, documents, pieces = packed(PATTERNS[0])
    out = flex.blocksparse(*inputs, PATTERNS[0], SCALE, documents)
    for row, start, stop in pieces:
        wanted = alone(inputs, PATTERNS[0], row, start, stop)
        torch.testing.assert_close(out[row, start:stop], wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [64, 75])
@pytest.mark.parametrize("pattern", PATTERNS[:4])
def test_flex_equals_a_dense_mask(pattern, length):
    """What a GPU runs compiled runs here in torch's own eager form, with the same block mask."""
    rows = [numbers(pattern, length, seed) for seed in (0, 1)]
    inputs = [torch.stack(pair) for pair in zip(*rows, strict=True)]
    out = flex.blocksparse(*inputs, pattern, SCALE, None)
    for row in range(2):
        torch.testing.assert_close(out[row], alone(inputs, pattern, row, 0, length), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("block", "counts"), [(64, (40,)), (64, (3, 21, 1, 9)), (32, (70,)), (48, (30,)), (128, (19,))]
)
def test_block_mask_holds_the_tiles_that_are_needed_and_no_others(block, counts):
    pattern = Pattern(8, 2, block, 3, 8)
    mask = flex.block_mask(pattern, counts, torch.device("cpu"))
    tile = mask.BLOCK_SIZE[0]
    assert tile % 128 == 0
    assert tile % block == 0
    length = sum(counts) * block
    wanted, begin = torch.zeros(8, length, length, dtype=torch.bool), 0
    for count in counts:
        own = slice(begin, begin + count * block)
        wanted[:, own, own] = pattern.mask(count * block, count * block)
        begin += count * block
    place = torch.arange(length)
    rule = torch.vmap(mask.mask_mod, (None, 0, None, None))(0, torch.arange(8), place[:, None], place[None, :])
    assert torch.equal(rule, wanted)
    missing = -length % tile
    tiles = torch.nn.functional.pad(wanted, (0, missing, 0, missing)).unflatten(2, (-1, tile)).unflatten(1, (-1, tile))
    assert torch.equal(mask.to_dense()[0].bool(), tiles.any(4).any(2))
    for head in range(8):
        for i, n in enumerate(mask.full_kv_num_blocks[0, head].tolist()):
            for j in mask.full_kv_indices[0, head, i, :n].tolist():
                rows, columns = wanted[head, i * tile : (i + 1) * tile], slice(j * tile, (j + 1) * tile)
                assert rows[:, columns].all()
