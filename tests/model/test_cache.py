"""Cached decoding equals the full pass, LongRoPE's switch included."""

from __future__ import annotations

import pytest
import torch

from phi3kit import Decoder, Dims
from phi3kit.model import GatedMLP, GroupedQueryAttention, GrowingCache, LongRoPE, RoPE
from phi3kit.model.generate import generate

DIMS = Dims(vocab_size=97, hidden_size=32, n_layers=2, n_heads=4, n_kv_heads=2, context=64)


def net(window: int | None = None, longrope: bool = False) -> Decoder:
    torch.manual_seed(1)
    position = (lambda d: LongRoPE(d, [1.0] * 4, [1.5, 2, 4, 8], 16)) if longrope else RoPE
    return Decoder(
        DIMS, [lambda d, i: GroupedQueryAttention(d, i, window=window)], [GatedMLP], position, init_std=0.3
    ).eval()


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("steps", [[1] * 24, [24], [10, 1, 1, 12], [3, 7, 14]])
@torch.no_grad()
def test_cached_steps_equal_the_full_pass(window: int | None, steps: list[int]) -> None:
    decoder = net(window)
    tokens = torch.randint(0, 97, (2, 24))
    cache = GrowingCache(DIMS.n_layers)
    pieces = [decoder(part, cache=cache) for part in tokens.split(steps, dim=1)]
    assert cache.length == 24
    torch.testing.assert_close(torch.cat(pieces, 1), decoder(tokens), atol=1e-5, rtol=0)


@torch.no_grad()
def test_truncated_cache_goes_on_as_if_the_rest_had_not_been() -> None:
    decoder = net()
    tokens = torch.randint(0, 97, (1, 12))
    cache = GrowingCache(DIMS.n_layers)
    decoder(tokens, cache=cache)
    cache.truncate(8)
    torch.testing.assert_close(decoder(tokens[:, 8:9], cache=cache)[:, -1], decoder(tokens[:, :9])[:, -1])


@torch.no_grad()
def test_generation_across_the_switch_equals_full_recomputation_and_says_so() -> None:
    decoder = net(longrope=True)
    ids = torch.randint(0, 97, (10,)).tolist()
    rebuilt: list[int] = []
    fast = list(generate(decoder, ids, max_new_tokens=20, on_rebuild=rebuilt.append))
    slow = []
    for _ in range(20):
        slow.append(int(decoder(torch.tensor([ids + slow]))[0, -1].argmax()))
    assert fast == slow
    assert rebuilt == [17]


@torch.no_grad()
def test_positions_beyond_the_table_extend_it() -> None:
    decoder = net()
    far = decoder(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[500, 501, 502]]))
    near = decoder(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(far, near, atol=1e-4, rtol=0)  # rotary: only distances count
