"""Blocksparse attention on a GPU: `flex_attention` with a block mask made from the rule, not from a T x T mask.

Documents are laid one after another into a single row, each padded to whole blocks of the rule, so that the rule's
blocks, counted from each document's beginning, are blocks of that row. The kernels' tiles hold two of Phi-3-small's
blocks: the tuned backward kernels for head width 128 want 128 keys (torch 2.13, inductor's flex heuristics). A tile
of which only a part is kept is masked inside.

Shapes: B rows, T tokens, P places of the padded row, H query heads, N blocks of the rule or tiles, K head width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from phi3kit_blocksparse.packing import PADDING, runs
from phi3kit_blocksparse.pattern import Pattern

TILE = 128


def blocksparse(
    q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, pattern: Pattern, scale: float, documents_BT: Tensor | None
) -> Tensor:
    """Attention of every document over itself, [B, T, H, K]; zeros at padding."""
    length, block = q_BTHK.shape[1], pattern.block
    counts: tuple[int, ...]
    if documents_BT is None:
        missing = -length % block
        counts = ((length + missing) // block,)
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, missing)) for x in (q_BTHK, k_BTGK, v_BTGK))
        return _flex(q, k, v, block_mask(pattern, counts, q_BTHK.device), scale)[:, :length]
    counts, sources_N, places_N = _layout(documents_BT.expand(q_BTHK.shape[:2]), block)
    room = sum(counts) * block
    q, k, v = (
        x.new_zeros(1, room, *x.shape[2:]).index_copy(1, places_N, x.flatten(0, 1)[None, sources_N])
        for x in (q_BTHK, k_BTGK, v_BTGK)
    )
    out_1PHK = _flex(q, k, v, block_mask(pattern, counts, q_BTHK.device), scale)
    out_NHK = torch.zeros_like(q_BTHK).flatten(0, 1).index_copy(0, sources_N, out_1PHK[0, places_N])
    return out_NHK.view(q_BTHK.shape)


def _layout(documents_BT: Tensor, block: int) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """Blocks of each document; where its tokens are among all B x T, and where they go in the padded row."""
    counts: list[int] = []
    sources, places, width = [], [], documents_BT.shape[1]
    for row, start, stop, number in runs(documents_BT):
        if number != PADDING:
            begin = sum(counts) * block
            counts.append(math.ceil((stop - start) / block))
            sources.append(torch.arange(row * width + start, row * width + stop))
            places.append(torch.arange(begin, begin + stop - start))
    device = documents_BT.device
    return tuple(counts), torch.cat(sources).to(device), torch.cat(places).to(device)


def _flex(q_BPHK: Tensor, k_BPGK: Tensor, v_BPGK: Tensor, mask: BlockMask, scale: float) -> Tensor:
    kernel = _compiled() if q_BPHK.is_cuda else cast(Callable[..., Any], flex_attention)
    q, k, v = (x_BPHK.transpose(1, 2) for x_BPHK in (q_BPHK, k_BPGK, v_BPGK))
    return kernel(q, k, v, block_mask=mask, scale=scale, enable_gqa=True).transpose(1, 2)


@functools.cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention)


@functools.lru_cache(maxsize=8)
def block_mask(pattern: Pattern, counts: tuple[int, ...], device: torch.device) -> BlockMask:
    """The mask of a row of documents of so many blocks each; the same for every layer of a step."""
    tile = math.lcm(TILE, pattern.block)
    kept_HNN = _kept(pattern, counts, device)
    length = kept_HNN.shape[-1] * pattern.block
    each = tile // pattern.block
    missing = -kept_HNN.shape[-1] % each
    tiles_HNeNe = F.pad(kept_HNN, (0, missing, 0, missing)).unflatten(1, (-1, each)).unflatten(3, (-1, each))
    some_HNN, all_HNN = tiles_HNeNe.any(4).any(2), tiles_HNeNe.all(4).all(2)
    full_HNN = all_HNN & ~torch.eye(all_HNN.shape[-1], dtype=torch.bool, device=device)
    return BlockMask.from_kv_blocks(
        *_ordered(some_HNN & ~full_HNN),
        *_ordered(full_HNN),
        BLOCK_SIZE=tile,
        mask_mod=_mask_mod(pattern, counts, device),
        seq_lengths=(length, length),
    )


def _kept(pattern: Pattern, counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Which of the row's blocks each block sees, [H, N, N]."""
    kept_HNN, begin = torch.zeros(pattern.heads, sum(counts), sum(counts), dtype=torch.bool, device=device), 0
    for count in counts:
        own = slice(begin, begin + count)
        kept_HNN[:, own, own] = pattern.blocks(count, device)
        begin += count
    return kept_HNN


def _ordered(kept_HNN: Tensor) -> tuple[Tensor, Tensor]:
    """How many key tiles of each query tile, [1, H, N], and all of them, the kept ones first, [1, H, N, N]."""
    return kept_HNN.sum(-1)[None].int(), kept_HNN.int().argsort(dim=-1, descending=True, stable=True)[None].int()


def _mask_mod(pattern: Pattern, counts: tuple[int, ...], device: torch.device) -> Callable[..., Tensor]:
    """The rule for one query and one key of the row."""
    block, local, stride = pattern.block, pattern.local, pattern.stride
    documents_N = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
    starts_N = (torch.tensor(counts).cumsum(0) - torch.tensor(counts)).to(device)[documents_N]
    first_H = torch.tensor([pattern.first(head) for head in range(pattern.heads)], device=device)

    def mask_mod(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        i, j = query // block, key // block
        near = i - j < local
        column = (j - starts_N[j] - first_H[head]) % stride == 0
        return (documents_N[i] == documents_N[j]) & (key <= query) & (near | column)

    return mask_mod
