"""The pieces that blocksparse attention over a whole document is made of: who asks, and which keys are asked.

A few query blocks, a row of R, see
1. themselves, causally;
2. the R - 1 oldest blocks of their windows, of which each sees one fewer than the one before it;
3. the blocks in between, which all of them see;
4. and their heads' earlier columns, a few at a time, copied next to each other.

So hardly anything is computed that the pattern leaves out. Pieces are small, so that what a kernel gives back is small
beside the whole, however long the document; there are as many heads or rows in one as there are threads.
Shapes: T tokens, H query heads, G key/value heads, K width of a head; W rows of r queries and c keys in a piece, h
query and g key/value heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from phi3kit_blocksparse.pattern import Group, Pattern

# larger ones take more room, smaller ones wait longer for their threads on a busy machine (benchmarks/README.md)
NEAR = 384  # queries of a row, and keys in columns at a time
FAR = 2048  # queries of a row for one head's columns
KEYS = 4096  # of a piece in the backward pass, and of how many query heads of a key/value head:
TOGETHER = 4


class Piece(NamedTuple):
    """Rows of queries, `apart` tokens from each other, and the keys of each, `step` tokens from each other."""

    start: int
    number: int
    rows: int
    apart: int
    heads: slice
    first_key: int
    keys: int
    step: int
    kv_heads: slice
    causal: bool = False  # a row's own keys; every row has exactly one such piece, and it comes first
    mask_rc: Tensor | None = None

    def queries(self, x_THK: Tensor) -> Tensor:
        """A view, [W, h, r, K]; [W, h, r] of [T, H]."""
        return _view(x_THK[self.start :, self.heads], self.number, self.apart, self.rows)

    def seen(self, k_TGK: Tensor) -> Tensor:
        """A view, [W, g, c, K]."""
        return _view(k_TGK[self.first_key :, self.kv_heads], self.number, self.step, self.keys)

    def add(self, dk_TGK: Tensor, dk_WgcK: Tensor) -> None:
        """Add gradients of `seen` to those of what it is a view of, where rows share no keys."""
        self.seen(dk_TGK).add_(dk_WgcK)

    def parts(self) -> Iterator[Piece]:
        """The same for the backward pass, which gives back three times as much: fewer heads and keys at a time."""
        heads, kv_heads = (_count(x) for x in (self.heads, self.kv_heads))
        share = heads // kv_heads
        apart = share if share % TOGETHER else share // TOGETHER
        most = KEYS if self.number == 1 else min(KEYS, self.apart)
        if self.causal or self.mask_rc is not None:
            most = self.keys
        for first in range(self.heads.start, self.heads.start + apart):
            some = self._replace(heads=slice(first, self.heads.stop, apart))
            for begin in range(0, self.keys, most):
                yield some._replace(first_key=self.first_key + begin, keys=min(most, self.keys - begin))


def _count(heads: slice) -> int:
    return len(range(heads.start, heads.stop, heads.step or 1))


def _view(x_ThK: Tensor, number: int, apart: int, rows: int) -> Tensor:
    by_token, by_head, *rest = x_ThK.stride()
    shape = (number, x_ThK.shape[1], rows, *x_ThK.shape[2:])
    return x_ThK.as_strided(shape, (apart * by_token, by_head, by_token, *rest))


def near(pattern: Pattern, length: int, like: Tensor, threads: int) -> Iterator[Piece]:
    """The local windows of all heads, row after row."""
    blocks = min(pattern.local, max(1, NEAR // pattern.block))
    rows, share = blocks * pattern.block, pattern.heads // pattern.kv_heads
    mask_rc = _leaving(pattern.block, blocks - 1, like)
    start = 0
    while start < length:
        whole = (length - start) // rows
        number = min(whole, max(1, threads // pattern.kv_heads)) if start >= pattern.reach and whole else 1
        for kv_heads in _runs(slice(0, pattern.kv_heads, 1), threads):
            heads = slice(kv_heads.start * share, kv_heads.stop * share)
            row = Piece(start, number, min(rows, length - start), rows, heads, start, 0, rows, kv_heads)
            yield from _row(pattern, row, blocks, mask_rc)
        start += number * rows


def _row(pattern: Pattern, row: Piece, blocks: int, mask_rc: Tensor) -> Iterator[Piece]:
    """One row's own keys, those that it sees less and less of, and those that all of it sees."""
    yield row._replace(keys=row.rows, causal=True)
    window = row.start - pattern.reach
    shared, oldest = max(0, window + blocks * pattern.block), max(0, window + pattern.block)
    if oldest < shared:
        rows = min(row.rows, mask_rc.shape[0])
        mask_rc = mask_rc[:rows, mask_rc.shape[1] - (shared - oldest) :]
        yield row._replace(rows=rows, first_key=oldest, keys=shared - oldest, mask_rc=mask_rc)
    if shared < row.start:
        yield row._replace(first_key=shared, keys=row.start - shared)


def _leaving(block: int, blocks: int, like: Tensor) -> Tensor:
    """What is added to scores with the blocks that leave the window, [r, c]: -inf below the diagonal of blocks."""
    place = torch.arange(blocks * block, device=like.device) // block
    hidden_rc = place[:, None] > place[None, :]
    return torch.zeros_like(hidden_rc, dtype=like.dtype).masked_fill_(hidden_rc, float("-inf"))


class Columns(NamedTuple):
    """A few of the columns of some heads: the `first` to the one before `stop`, in their order."""

    pattern: Pattern
    group: Group
    first: int
    stop: int

    def view(self, k_TGK: Tensor) -> Tensor:
        """Where they are, [columns, block, h, K]."""
        block, stride = self.pattern.block, self.pattern.stride
        blocks = k_TGK.shape[0] // block
        k_nbhK = k_TGK[: blocks * block, self.group.kv_heads].unflatten(0, (blocks, block))
        return k_nbhK[self.group.first :: stride][self.first : self.stop]

    def copy(self, k_TGK: Tensor) -> Tensor:
        """Side by side, [c, h, K]."""
        return self.view(k_TGK).flatten(0, 1)

    def add(self, dk_TGK: Tensor, dk_WhcK: Tensor) -> None:
        """Add gradients of the first of `copy`, for each row of a piece, to those of what was copied."""
        for dk_hcK in dk_WhcK:
            dk_nbhK = dk_hcK.unflatten(1, (-1, self.pattern.block)).permute(1, 2, 0, 3)
            self.view(dk_TGK)[: len(dk_nbhK)].add_(dk_nbhK)

    def pieces(self, length: int, threads: int) -> Iterator[Piece]:
        """Who sees them; `seen` is of `copy`."""
        pattern, group = self.pattern, self.group
        firsts = (group.first + n * pattern.stride for n in range(self.first, self.stop))
        starts = [pattern.reach + first * pattern.block for first in firsts]
        for n, (start, end) in enumerate(zip(starts, [*starts[1:], length], strict=True)):
            while start < end:
                rows = min(FAR, end - start)
                number = max(1, min(threads // group.size, (end - start) // rows))
                yield Piece(start, number, rows, rows, group.heads, 0, (n + 1) * pattern.block, 0, slice(None))
                start += number * rows


def far(pattern: Pattern, length: int, threads: int) -> Iterator[Columns]:
    """All columns that anyone sees, some heads and a few columns at a time."""
    few = max(1, NEAR // pattern.block)
    for whole in pattern.groups:
        number = pattern.remote(whole.first, (length - 1) // pattern.block)
        heads_and_keys = zip(_runs(whole.heads, threads), _runs(whole.kv_heads, threads), strict=True)
        for heads, kv_heads in heads_and_keys:
            for first in range(0, number, few):
                yield Columns(pattern, Group(whole.first, heads, kv_heads), first, min(first + few, number))


def _runs(heads: slice, most: int) -> list[slice]:
    """Evenly spaced heads in runs of at most so many."""
    places = range(heads.start, heads.stop, heads.step)
    runs = [places[n : n + most] for n in range(0, len(places), most)]
    return [slice(run.start, run.stop, run.step) for run in runs]
