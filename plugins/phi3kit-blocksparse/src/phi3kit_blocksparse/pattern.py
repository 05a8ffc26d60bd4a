"""Which blocks a head sees: the last few, and every so many of the earlier ones, starting elsewhere for each head.

Query block i of head h sees key block j <= i where ``i - j < local`` or ``(j + h * step + 1) % stride == 0``; within
the diagonal block each token sees those up to itself (Phi-3 Technical Report, section 2 and figure 1; the rule as
Phi-3-small's public code has it, triton_flash_blocksparse_attn.py).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Query heads that see the same columns, each with a key/value head of its own: slices of the heads."""

    first: int
    heads: slice
    kv_heads: slice

    @property
    def size(self) -> int:
        """How many heads."""
        return len(range(self.heads.start, self.heads.stop, self.heads.step))


@dataclass(frozen=True)
class Pattern:
    """The rule, for one layer.

    Args:
        heads: query heads.
        kv_heads: key/value heads; query head h uses key/value head ``h // (heads / kv_heads)``.
        block: tokens in a block.
        local: blocks of the local window, the query's own included.
        stride: of the earlier blocks, each head sees one in so many.
        homogeneous: every head sees the same ones.
    """

    heads: int
    kv_heads: int
    block: int
    local: int
    stride: int
    homogeneous: bool = False

    @property
    def reach(self) -> int:
        """Sequences of up to so many tokens are attended to in full."""
        return self.local * self.block

    def first(self, head: int) -> int:
        """The first of the head's columns; the others follow at every `stride`."""
        step = 0 if self.homogeneous else max(1, self.stride // self.heads)
        return (-1 - head * step) % self.stride

    def remote(self, first: int, i: int) -> int:
        """How many of the columns ``first, first + stride, ...`` lie before the local window of query block i."""
        return max(0, (i - self.local - first) // self.stride + 1)

    def columns(self, head: int, i: int) -> list[int]:
        """All key blocks that query block i of a head sees."""
        first = self.first(head)
        remote = [first + self.stride * n for n in range(self.remote(first, i))]
        return [*remote, *range(max(0, i - self.local + 1), i + 1)]

    def blocks(self, length: int, device: torch.device | str | None = None) -> Tensor:
        """Which of N key blocks each of N query blocks sees, [H, N, N] bool."""
        i_N1 = torch.arange(length, device=device)[:, None]
        j_1N = torch.arange(length, device=device)[None, :]
        first_H11 = torch.tensor([self.first(head) for head in range(self.heads)], device=device)[:, None, None]
        return (j_1N <= i_N1) & ((i_N1 - j_1N < self.local) | ((j_1N - first_H11) % self.stride == 0))

    def mask(self, queries: int, keys: int, device: torch.device | str | None = None) -> Tensor:
        """Which keys the last `queries` of `keys` tokens see, [H, queries, keys] bool."""
        q_T1 = torch.arange(keys - queries, keys, device=device)[:, None]
        k_1S = torch.arange(keys, device=device)[None, :]
        i_T1, j_1S = q_T1 // self.block, k_1S // self.block
        first_H11 = torch.tensor([self.first(head) for head in range(self.heads)], device=device)[:, None, None]
        return (k_1S <= q_T1) & ((i_T1 - j_1S < self.local) | ((j_1S - first_H11) % self.stride == 0))

    @functools.cached_property
    def groups(self) -> list[Group]:
        """Every head once, in groups whose heads and key/value heads are evenly spaced."""
        share = self.heads // self.kv_heads
        rows: dict[tuple[int, int], list[int]] = {}
        for head in range(self.heads):
            alike = [h for h in range(head // share * share, head) if self.first(h) == self.first(head)]
            rows.setdefault((self.first(head), len(alike)), []).append(head)
        return [self._group(first, run, share) for (first, _), heads in rows.items() for run in _evenly_spaced(heads)]

    def _group(self, first: int, heads: list[int], share: int) -> Group:
        return Group(first, _as_slice(heads), _as_slice([head // share for head in heads]))


def _evenly_spaced(heads: list[int]) -> Iterator[list[int]]:
    """The heads in runs of equal steps."""
    run: list[int] = []
    for head in heads:
        if len(run) > 1 and head - run[-1] != run[1] - run[0]:
            yield run
            run = []
        run.append(head)
    yield run


def _as_slice(numbers: list[int]) -> slice:
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    assert all(b - a == step for a, b in pairwise(numbers))
    return slice(numbers[0], numbers[-1] + 1, step)
