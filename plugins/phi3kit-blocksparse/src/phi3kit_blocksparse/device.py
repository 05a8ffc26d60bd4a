"""Blocksparse attention and GEGELU in the forms that ExecuTorch computes.

Its operator for attention takes one mask for all heads. So the key/value heads whose query heads have the same
patterns form a set with a cache of its own, and of each set the query heads of one key/value head become rows of the
mask: Phi-3-small needs two calls a layer, for its even and its odd key/value heads. The operator reads all blocks: the
pattern is right, but saves no work there.

Shapes: B rows, T tokens, D hidden, H query heads, G key/value heads, J = H / G, N keys, K head width, I inner width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from phi3kit.families import Cache, FixedCache, Heads, Rotation, Seen
from phi3kit_blocksparse.heads import split_heads
from phi3kit_blocksparse.pattern import Pattern

if TYPE_CHECKING:
    from phi3kit_blocksparse.attention import BlocksparseAttention
    from phi3kit_blocksparse.feed_forward import GEGELUMLP


@dataclass(frozen=True)
class Blocks(Seen):
    """`Pattern`'s rule for the J query heads of each key/value head of a set.

    Args:
        firsts: the first column of each of them.
        block: tokens in a block.
        local: blocks of the local window.
        stride: between columns.
    """

    firsts: tuple[int, ...]
    block: int
    local: int
    stride: int

    @property
    def kinds(self) -> int:  # type: ignore[override]
        return len(self.firsts)

    @property
    def reach(self) -> int:
        return self.local * self.block

    def seen(self, queries_T: Tensor, keys_N: Tensor) -> Tensor:
        i_T11, j_N = (queries_T // self.block)[:, None, None], keys_N // self.block
        column_JN = (j_N - torch.tensor(self.firsts)[:, None]) % self.stride == 0
        near_T1N = i_T11 - j_N < self.local
        return (keys_N <= queries_T[:, None, None]) & (near_T1N | column_JN)


def sets(pattern: Pattern) -> list[tuple[Blocks, list[int]]]:
    """The rules, and which key/value heads have each."""
    share, found = pattern.heads // pattern.kv_heads, dict[tuple[int, ...], list[int]]()
    for group in range(pattern.kv_heads):
        firsts = tuple(pattern.first(head) for head in range(group * share, (group + 1) * share))
        found.setdefault(firsts, []).append(group)
    return [(Blocks(firsts, pattern.block, pattern.local, pattern.stride), groups) for firsts, groups in found.items()]


@final
class DeviceBlocksparse(nn.Module):
    """`BlocksparseAttention` after a `FixedCache`; without one it computes as that does.

    Args:
        trained: what it takes over.
    """

    device_note = "blocksparse attention: a program sees by the pattern and computes all scores; no faster than dense"

    def __init__(self, trained: BlocksparseAttention) -> None:
        super().__init__()
        self.layer, self.dims, self.scale = trained.layer, trained.dims, trained.scale
        self.query_key_value, self.dense = trained.query_key_value, trained.dense
        self.sets = sets(trained.blocks)
        self._uncached: Callable[..., Tensor] = trained.attend

    def stores(self, kv_heads: int) -> list[int]:
        """See `Attention.stores`."""
        return [len(groups) for _, groups in self.sets]

    def forward(
        self, x_BTD: Tensor, rotation: Rotation, documents_BT: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        heads = split_heads(self.query_key_value(x_BTD), self.dims, rotation)
        if cache is None:
            return self.dense(self._uncached(*heads, documents_BT).flatten(2))
        assert isinstance(cache, FixedCache)
        return self.dense(self._attend(*heads, cache).flatten(2))

    def _attend(self, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, cache: FixedCache) -> Tensor:
        q_BTGJK = q_BTHK.unflatten(2, (self.dims.kv_heads, -1))
        split = [
            Heads(q_BTGJK[:, :, groups].flatten(2, 3), k_BTGK[:, :, groups], v_BTGK[:, :, groups], rule)
            for rule, groups in self.sets
        ]
        parts = cache.attend_seen(self.layer, split, self.scale)
        out_BTGJK = torch.cat([part.unflatten(2, (-1, q_BTGJK.shape[3])) for part in parts], dim=2)
        order = [group for _, groups in self.sets for group in groups]
        back = sorted(range(len(order)), key=order.__getitem__)
        return out_BTGJK[:, :, back].flatten(2, 3)


@final
class DeviceGEGELU(nn.Module):
    """`GEGELUMLP` with its halves in matrices of their own, which costs no gathering of every second number.

    Infinities do not pass the clamp here.

    Args:
        trained: what it takes over.
    """

    def __init__(self, trained: GEGELUMLP) -> None:
        super().__init__()
        self.limit, self.down_proj = trained.limit, trained.down_proj
        self.gate_proj, self.linear_proj = (_every_second(trained.up_proj, first) for first in (0, 1))

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_BTI, linear_BTI = self.gate_proj(x_BTD), self.linear_proj(x_BTD)
        if self.limit is not None:
            gate_BTI, linear_BTI = gate_BTI.clamp(max=self.limit), linear_BTI.clamp(-self.limit, self.limit)
        return self.down_proj(gate_BTI * torch.sigmoid(1.702 * gate_BTI) * (linear_BTI + 1))


def _every_second(trained: nn.Linear, first: int) -> nn.Linear:
    """A linear layer of every second row."""
    layer = nn.Linear(trained.in_features, trained.out_features // 2, device="meta")
    layer.weight = nn.Parameter(trained.weight.detach()[first::2].contiguous(), requires_grad=False)
    layer.bias = nn.Parameter(trained.bias.detach()[first::2].contiguous(), requires_grad=False)
    return layer
