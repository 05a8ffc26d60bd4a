"""The pieces that blocksparse attention over a whole document is made of: what goes into each, and where it comes out.

A query sees
1. in the first `local` blocks, everything before it;
2. later, a window of `local` blocks: `Windows` are overlapping views of the keys, each for a few query blocks;
3. and its head's earlier columns. Laid next to each other, `stride` query blocks in a row see the same first so many
   of them: a `Span`.

Queries, outputs and gradients are views everywhere: torch's fused kernel writes in the order in which they lie.
Shapes: T tokens, H query heads, G key/value heads, K width of a head; W windows, r queries and c keys of a piece, N
groups of h heads.
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
    """Tokens of several groups of heads that see the same first so many of their own columns.

    Where one group's columns begin some blocks after another's, so do its tokens: all groups' are one view.
    """

    pattern: Pattern
    groups: tuple[Group, ...]
    start: int  # the first group's first token
    rows: int
    place: slice  # of the groups, among all of their bundle
    keys: slice

    def queries(self, x_THK: Tensor) -> Tensor:
        """A view, [N, h, r, K]."""
        first, (by_token, by_head, *rest) = self.groups[0], x_THK.stride()
        by_group = 0
        if len(self.groups) > 1:
            columns, heads = distance(first, self.groups[1])
            by_group = columns * self.pattern.block * by_token + heads * by_head
        shape = (len(self.groups), first.size, self.rows, *x_THK.shape[2:])
        strides = (by_group, first.heads.step * by_head, by_token, *rest)
        origin = x_THK.storage_offset() + self.start * by_token + first.heads.start * by_head
        return x_THK.as_strided(shape, strides, origin)


def distance(one: Group, other: Group) -> tuple[int, int]:
    """How many columns and heads later another group begins."""
    return other.first - one.first, other.heads.start - one.heads.start


def bundles(pattern: Pattern) -> list[tuple[Group, ...]]:
    """The groups, by runs of equal size and equal distances: all of Phi-3-small's are one bundle."""
    found: list[list[Group]] = []
    for group in sorted(pattern.groups, key=lambda group: (group.heads.step, group.size, group.first)):
        last = found[-1] if found else []
        alike = bool(last) and (last[0].size, last[0].heads.step) == (group.size, group.heads.step)
        apart = alike and group.first > last[-1].first
        if apart and (len(last) == 1 or distance(last[-1], group) == distance(last[0], last[1])):
            last.append(group)
        else:
            found.append([group])
    return [tuple(bundle) for bundle in found]


def spans(pattern: Pattern, bundle: tuple[Group, ...], length: int) -> Iterator[Span]:
    """The spans of a document, from the one that sees a single column on; at its end each group has its own."""
    rows = pattern.stride * pattern.block
    for number in range(most_columns(pattern, bundle, length)):
        keys = slice(0, (number + 1) * pattern.block)
        starts = [(pattern.local + group.first + number * pattern.stride) * pattern.block for group in bundle]
        if starts[-1] + rows <= length:
            yield Span(pattern, bundle, starts[0], rows, slice(None), keys)
            continue
        for n, (group, start) in enumerate(zip(bundle, starts, strict=True)):
            if start < length:
                yield Span(pattern, (group,), start, min(rows, length - start), slice(n, n + 1), keys)


def most_columns(pattern: Pattern, bundle: tuple[Group, ...], length: int) -> int:
    """How many columns a document's last query block sees, of the group that sees most."""
    return pattern.remote(bundle[0].first, (length - 1) // pattern.block)


def columns(pattern: Pattern, bundle: tuple[Group, ...], k_TGK: Tensor) -> Tensor:
    """Each group's columns next to each other, [N, h, c, K]; zeros where a group has one less."""
    number = most_columns(pattern, bundle, k_TGK.shape[0])
    side_by_side = k_TGK.new_zeros(len(bundle), bundle[0].size, number, pattern.block, k_TGK.shape[2])
    for n, group in enumerate(bundle):
        own = _columns(pattern, group, k_TGK)
        side_by_side[n, :, : len(own)] = own.permute(2, 0, 1, 3)
    return side_by_side.flatten(2, 3)


def add_columns(pattern: Pattern, bundle: tuple[Group, ...], dk_TGK: Tensor, dk_NhcK: Tensor) -> None:
    """Add gradients of `columns` to those of what they were copied from."""
    for group, dk_hcK in zip(bundle, dk_NhcK, strict=True):
        own = _columns(pattern, group, dk_TGK)
        own += dk_hcK.unflatten(1, (-1, pattern.block)).permute(1, 2, 0, 3)[: len(own)]


def _columns(pattern: Pattern, group: Group, k_TGK: Tensor) -> Tensor:
    """Those that some query of the group's heads sees: a view, [columns, block, h, K]."""
    blocks = k_TGK.shape[0] // pattern.block
    number = pattern.remote(group.first, (k_TGK.shape[0] - 1) // pattern.block)
    k_nbhK = k_TGK[: blocks * pattern.block, group.kv_heads].unflatten(0, (blocks, pattern.block))
    return k_nbhK[group.first :: pattern.stride][:number]
