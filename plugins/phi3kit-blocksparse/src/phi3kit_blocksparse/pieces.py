"""The pieces that blocksparse attention over a whole document is made of: what goes into each, and where it comes out.

A query sees
1. in the first `local` blocks, everything before it;
2. later, a `Window` of `local` blocks: windows of neighbouring query blocks are overlapping views of the keys;
3. and its head's earlier columns. Laid next to each other, `stride` query blocks in a row (a `Span`) see the same
   first so many of them.

Shapes: T tokens, H query heads, G key/value heads, K width (of a head, or 1), W windows, r queries and c keys of a
piece. In 2 the query heads of one key/value head are rows of one piece; in 3 the heads are in the order of
`Pattern.groups`, h.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from phi3kit_blocksparse.pattern import Group, Pattern

WINDOWS = 4  # at once: the gradient of their keys is as many windows long


class Window(NamedTuple):
    """The windows of `number` query blocks from `block` on; the last block of a document may have fewer `rows`."""

    pattern: Pattern
    block: int
    number: int
    rows: int

    def queries(self, x_THK: Tensor) -> Tensor:
        """Copied out, [W, G, r, K]: r is the query heads of a key/value head times `rows`."""
        return self._place(x_THK).permute(0, 2, 3, 1, 4).flatten(2, 3)

    def put(self, x_THK: Tensor, piece_WGrK: Tensor) -> None:
        """The inverse of `queries`."""
        self._place(x_THK).copy_(piece_WGrK.unflatten(2, (-1, self.rows)).permute(0, 3, 1, 2, 4))

    def _place(self, x_THK: Tensor) -> Tensor:
        """A view, [W, rows, G, heads of one, K]."""
        start = self.block * self.pattern.block
        x_rHK = x_THK[start : start + self.number * self.rows]
        return x_rHK.unflatten(0, (self.number, self.rows)).unflatten(2, (self.pattern.kv_heads, -1))

    @property
    def _keys(self) -> tuple[int, int]:
        """Where the first window begins, and how many keys one holds."""
        before = self.pattern.local - 1
        return (self.block - before) * self.pattern.block, before * self.pattern.block + self.rows

    def keys(self, k_GTK: Tensor) -> Tensor:
        """A view, [W, G, c, K]."""
        start, width = self._keys
        stop = start + width + (self.number - 1) * self.pattern.block
        return k_GTK[:, start:stop].unfold(1, width, self.pattern.block).permute(1, 0, 3, 2)

    def add_keys(self, dk_GTK: Tensor, dk_WGcK: Tensor) -> None:
        """Add gradients of `keys` to those of what they are views of."""
        start, width = self._keys
        for begin in range(0, width, self.pattern.block):
            part_WGbK = dk_WGcK[:, :, begin : begin + self.pattern.block]
            part_GnK = part_WGbK.transpose(0, 1).flatten(1, 2)
            dk_GTK[:, start + begin : start + begin + part_GnK.shape[1]] += part_GnK

    def mask(self, like: Tensor) -> Tensor:
        """What is added to the scores: -inf for the later keys of a query's own block, [r, c]."""
        mask_rc = like.new_zeros(self.rows, self._keys[1])
        mask_rc[:, -self.rows :] = like.new_full((self.rows, self.rows), float("-inf")).triu(1)
        return mask_rc.repeat(self.pattern.heads // self.pattern.kv_heads, 1)


def windows(pattern: Pattern, length: int) -> Iterator[Window]:
    """The windows of all query blocks but the first `local`."""
    whole, rest = divmod(length, pattern.block)
    for block in range(pattern.local, whole, WINDOWS):
        yield Window(pattern, block, min(WINDOWS, whole - block), pattern.block)
    if rest and whole >= pattern.local:
        yield Window(pattern, whole, 1, rest)


class Span(NamedTuple):
    """For each head, the `stride` query blocks that see the first `columns` of its columns and no more."""

    pattern: Pattern
    columns: int
    length: int

    def _places(self) -> Iterator[tuple[slice, slice, slice]]:
        """(heads of the piece, tokens, their heads) of each group; fewer tokens at a document's end."""
        begin, p = 0, self.pattern
        for group in p.groups:
            first_block = p.local + group.first + (self.columns - 1) * p.stride
            start, stop = (min(self.length, block * p.block) for block in (first_block, first_block + p.stride))
            yield slice(begin, begin + group.size), slice(start, stop), group.heads
            begin += group.size

    def take(self, x_THK: Tensor) -> Tensor:
        """Copied out, [h, r, K]; zeros after a document's end."""
        piece_hrK = x_THK.new_zeros(self.pattern.heads, self.pattern.stride * self.pattern.block, x_THK.shape[2])
        for place, tokens, heads in self._places():
            x_hrK = x_THK[tokens, heads].transpose(0, 1)
            piece_hrK[place, : x_hrK.shape[1]] = x_hrK
        return piece_hrK

    def put(self, x_THK: Tensor, piece_hrK: Tensor) -> None:
        """The inverse of `take`."""
        for place, tokens, heads in self._places():
            x_THK[tokens, heads] = piece_hrK[place, : tokens.stop - tokens.start].transpose(0, 1)


def spans(pattern: Pattern, length: int) -> Iterator[Span]:
    """The spans of a document, from the shortest number of columns on."""
    for number in range(most_columns(pattern, length)):
        yield Span(pattern, number + 1, length)


def most_columns(pattern: Pattern, length: int) -> int:
    """How many columns before its local window some head's last query block sees."""
    return max(pattern.remote(group.first, (length - 1) // pattern.block) for group in pattern.groups)


def columns(pattern: Pattern, k_GTK: Tensor) -> Tensor:
    """Each head's columns next to each other, [h, c, K]; zeros where a head has one less."""
    length = k_GTK.shape[1]
    shape = (pattern.heads, most_columns(pattern, length), pattern.block, k_GTK.shape[2])
    gathered_hnbK, begin = k_GTK.new_zeros(shape), 0
    for group in pattern.groups:
        view_hnbK = _column_view(pattern, group, k_GTK)
        gathered_hnbK[begin : begin + group.size, : view_hnbK.shape[1]] = view_hnbK
        begin += group.size
    return gathered_hnbK.flatten(1, 2)


def add_columns(pattern: Pattern, dk_hcK: Tensor, dk_GTK: Tensor) -> None:
    """Add gradients of `columns` to those of the keys they were copied from."""
    dk_hnbK, begin = dk_hcK.unflatten(1, (-1, pattern.block)), 0
    for group in pattern.groups:
        view_hnbK = _column_view(pattern, group, dk_GTK)
        view_hnbK += dk_hnbK[begin : begin + group.size, : view_hnbK.shape[1]]
        begin += group.size


def _column_view(pattern: Pattern, group: Group, k_GTK: Tensor) -> Tensor:
    """[heads of the group, columns, block, K]."""
    blocks = k_GTK.shape[1] // pattern.block
    number = pattern.remote(group.first, (k_GTK.shape[1] - 1) // pattern.block)
    k_hnbK = k_GTK[group.kv_heads, : blocks * pattern.block].unflatten(1, (blocks, pattern.block))
    return k_hnbK[:, group.first :: pattern.stride][:, :number]
