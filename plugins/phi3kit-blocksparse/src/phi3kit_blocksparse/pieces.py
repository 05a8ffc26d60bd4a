"""The pieces that blocksparse attention over a whole document is made of: what goes into each, and where it comes out.

A query sees
1. in the first `local` blocks, everything before it;
2. later, a window of `local` blocks: `Windows` are overlapping views of the keys, each for a few query blocks;
3. and its head's earlier columns. Laid next to each other, `stride` query blocks in a row (a `Span`) see the same
   first so many of them.

Queries, outputs and gradients are views everywhere: torch's fused kernel writes in the order in which they lie.
Shapes: T tokens, H query heads, G key/value heads, K width of a head; W windows, r queries and c keys of a piece, h
heads of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from phi3kit_blocksparse.pattern import Group, Pattern

BLOCKS = 4  # query blocks of a window: fewer are slower (the kernel likes 256 queries), more see too much of each other
WINDOWS = 4  # at once: the gradient of their keys is as many windows long


class Windows(NamedTuple):
    """`number` windows for `rows` queries each, from query block `block` on."""

    pattern: Pattern
    block: int
    number: int
    rows: int

    def queries(self, x_THK: Tensor) -> Tensor:
        """A view, [W, H, r, K]."""
        start = self.block * self.pattern.block
        x_nHK = x_THK[start : start + self.number * self.rows]
        return x_nHK.unflatten(0, (self.number, self.rows)).transpose(1, 2)

    def keys(self, k_TGK: Tensor) -> Tensor:
        """A view, [W, G, c, K]; windows overlap."""
        start = (self.block - self.pattern.local + 1) * self.pattern.block
        width = (self.pattern.local - 1) * self.pattern.block + self.rows
        stop = start + width + (self.number - 1) * self.rows
        return k_TGK[start:stop].unfold(0, width, self.rows).transpose(2, 3)

    def add_keys(self, dk_TGK: Tensor, dk_WGcK: Tensor) -> None:
        """Add gradients of `keys` to those of what they are views of, as many at a time as do not overlap."""
        place_WGcK = self.keys(dk_TGK)
        for begin in range(0, place_WGcK.shape[2], self.rows):
            some = slice(begin, begin + self.rows)
            place_WGcK[:, :, some] += dk_WGcK[:, :, some]

    def mask(self, like: Tensor) -> Tensor:
        """What is added to the scores, [r, c]: -inf for later keys, and for blocks before a query's own window."""
        block, local = self.pattern.block, self.pattern.local
        before = (local - 1) * block
        key_1c = torch.arange(before + self.rows, device=like.device)[None]
        query_r1 = torch.arange(before, before + self.rows, device=like.device)[:, None]
        hidden_rc = (key_1c > query_r1) | (query_r1 // block - key_1c // block >= local)
        return torch.zeros_like(hidden_rc, dtype=like.dtype).masked_fill_(hidden_rc, float("-inf"))


def windows(pattern: Pattern, length: int) -> Iterator[Windows]:
    """The windows of all query blocks but the first `local`; the last one may have fewer queries."""
    whole, rows = max(0, length - pattern.reach) // (BLOCKS * pattern.block), BLOCKS * pattern.block
    for n in range(0, whole, WINDOWS):
        yield Windows(pattern, pattern.local + n * BLOCKS, min(WINDOWS, whole - n), rows)
    rest = length - pattern.reach - whole * rows
    if rest > 0:
        yield Windows(pattern, pattern.local + whole * BLOCKS, 1, rest)


class Span(NamedTuple):
    """Tokens that see the same first so many `keys` of the columns of a group of heads."""

    group: Group
    tokens: slice
    keys: slice

    def queries(self, x_THK: Tensor) -> Tensor:
        """A view, [1, h, r, K]."""
        return x_THK[self.tokens, self.group.heads].transpose(0, 1)[None]


def spans(pattern: Pattern, group: Group, length: int) -> Iterator[Span]:
    """The spans of a document, from the one that sees a single column on."""
    for number in range(pattern.remote(group.first, (length - 1) // pattern.block)):
        start = (pattern.local + group.first + number * pattern.stride) * pattern.block
        tokens = slice(start, min(length, start + pattern.stride * pattern.block))
        yield Span(group, tokens, slice(0, (number + 1) * pattern.block))


def columns(pattern: Pattern, group: Group, k_TGK: Tensor) -> Tensor:
    """The columns that some query of the group's heads sees: a view, [columns, block, h, K]."""
    blocks = k_TGK.shape[0] // pattern.block
    number = pattern.remote(group.first, (k_TGK.shape[0] - 1) // pattern.block)
    k_nbhK = k_TGK[: blocks * pattern.block, group.kv_heads].unflatten(0, (blocks, pattern.block))
    return k_nbhK[group.first :: pattern.stride][:number]
