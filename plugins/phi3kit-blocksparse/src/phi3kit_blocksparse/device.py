"""Phi-3-small's attentions and GEGELU in the forms that ExecuTorch computes.

Its operator for attention takes one mask for all heads. So the key/value heads whose query heads have the same
patterns form a set with a cache of its own, and of each set the query heads of one key/value head become rows of the
mask: Phi-3-small needs two calls a layer, for its even and its odd key/value heads. The operator reads all blocks: the
pattern is right, but saves no work there. Each set has matrices of its own for queries, keys and values, and the output
matrix takes heads in the sets' order, so that nothing is gathered.

Shapes: B rows, T tokens, D hidden, H query heads, G key/value heads, J = H / G, N keys, K head width, I inner width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from phi3kit.families import Cache, FixedCache, Heads, Rotation, Seen
from phi3kit.model.attend import attend
from phi3kit.model.position import rotate
from phi3kit.records import Dims
from phi3kit_blocksparse.pattern import Pattern

if TYPE_CHECKING:
    from phi3kit_blocksparse.attention import BlocksparseAttention, GroupedDenseAttention
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
class Projections(nn.Module):
    """What `query_key_value` has of some key/value heads, in matrices of their own.

    Args:
        trained: rows grouped by key/value head: J times queries, keys, values.
        dims: the net's sizes.
        groups: the key/value heads.
    """

    def __init__(self, trained: nn.Linear, dims: Dims, groups: Sequence[int]) -> None:
        super().__init__()
        share, self.width = dims.n_heads // dims.kv_heads, dims.head_width
        rows_GNK = torch.arange(trained.out_features).view(dims.kv_heads, share + 2, self.width)[list(groups)]
        self.q_proj = _some_rows(trained, rows_GNK[:, :share])
        self.k_proj = _some_rows(trained, rows_GNK[:, share])
        self.v_proj = _some_rows(trained, rows_GNK[:, share + 1])

    def forward(self, x_BTD: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as heads; queries and keys rotated."""
        q, k, v = (self._heads(each(x_BTD)) for each in (self.q_proj, self.k_proj, self.v_proj))
        return rotate(q, rotation), rotate(k, rotation), v

    def _heads(self, rows_BTJ: Tensor) -> Tensor:
        # a view that infers T: XNNPACK (ExecuTorch 1.4) takes no other where T varies
        return rows_BTJ.view(rows_BTJ.shape[0], -1, rows_BTJ.shape[2] // self.width, self.width)


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
        found = sets(trained.blocks)
        self.rules, self.sizes = [rule for rule, _ in found], [len(groups) for _, groups in found]
        self.order = [group for _, groups in found for group in groups]
        self.sets = nn.ModuleList(Projections(trained.query_key_value, self.dims, groups) for _, groups in found)
        self.dense = _reordered(trained.dense, self.order)
        self._uncached: Callable[..., Tensor] = trained.attend

    def stores(self, kv_heads: int) -> list[int]:
        """See `Attention.stores`."""
        return self.sizes

    def forward(
        self, x_BTD: Tensor, rotation: Rotation, documents_BT: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        heads = [project(x_BTD, rotation) for project in self.sets]
        if cache is None:
            return self.dense(self._whole(heads, documents_BT).flatten(2))
        assert isinstance(cache, FixedCache)
        split = [Heads(*each, rule) for each, rule in zip(heads, self.rules, strict=True)]
        parts = cache.attend_seen(self.layer, split, self.scale)
        rows = x_BTD.shape[0]
        return self.dense(torch.cat([part.view(rows, -1, part.shape[2] * part.shape[3]) for part in parts], dim=-1))

    def _whole(self, heads: Sequence[tuple[Tensor, Tensor, Tensor]], documents_BT: Tensor | None) -> Tensor:
        """Attention without a cache, which wants the heads in the net's order, [B, T, H, K] in the sets'."""
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        grouped = [
            torch.cat([each.unflatten(2, (size, -1)) for each, size in zip(kind, self.sizes, strict=True)], dim=2)
            for kind in zip(*heads, strict=True)
        ]
        out_BTHK = self._uncached(*(each_BTGJK[:, :, back].flatten(2, 3) for each_BTGJK in grouped), documents_BT)
        return out_BTHK.unflatten(2, (len(self.order), -1))[:, :, self.order].flatten(2, 3)


@final
class DeviceGroupedDense(nn.Module):
    """`GroupedDenseAttention` with matrices of their own for queries, keys and values.

    Args:
        trained: what it takes over.
    """

    def __init__(self, trained: GroupedDenseAttention) -> None:
        super().__init__()
        self.layer, self.scale = trained.layer, trained.scale
        self.project = Projections(trained.query_key_value, trained.dims, range(trained.dims.kv_heads))
        self.dense = trained.dense

    def forward(
        self, x_BTD: Tensor, rotation: Rotation, documents_BT: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        q_BTHK, k_BTGK, v_BTGK = self.project(x_BTD, rotation)
        if cache is not None:
            out_BTHK = cache.attend(self.layer, q_BTHK, k_BTGK, v_BTGK, scale=self.scale, window=None)
        else:
            out_BTHK = attend(q_BTHK, k_BTGK, v_BTGK, scale=self.scale, documents_BT=documents_BT)
        return self.dense(out_BTHK.contiguous().view(x_BTD.shape[0], -1, q_BTHK.shape[2] * q_BTHK.shape[3]))

    def stores(self, kv_heads: int) -> list[int]:
        """See `Attention.stores`."""
        return [kv_heads]


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
        rows_I2 = torch.arange(trained.up_proj.out_features).view(-1, 2)
        self.gate_proj, self.linear_proj = (_some_rows(trained.up_proj, rows_I2[:, each]) for each in (0, 1))

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate_BTI, linear_BTI = self.gate_proj(x_BTD), self.linear_proj(x_BTD)
        if self.limit is not None:
            gate_BTI, linear_BTI = gate_BTI.clamp(max=self.limit), linear_BTI.clamp(-self.limit, self.limit)
        return self.down_proj(gate_BTI * torch.sigmoid(1.702 * gate_BTI) * (linear_BTI + 1))


def _some_rows(trained: nn.Linear, rows: Tensor) -> nn.Linear:
    """A linear layer of some rows of another, float one, in the order given."""
    layer = nn.Linear(trained.in_features, rows.numel(), device="meta")
    layer.weight, layer.bias = (
        nn.Parameter(numbers.detach()[rows.flatten()], requires_grad=False)
        for numbers in (trained.weight, trained.bias)
    )
    return layer


def _reordered(trained: nn.Linear, groups: Sequence[int]) -> nn.Linear:
    """A linear layer whose input comes key/value head by key/value head, in another order."""
    layer = nn.Linear(trained.in_features, trained.out_features, device="meta")
    weight_DGX = trained.weight.detach().unflatten(1, (len(groups), -1))[:, list(groups)]
    layer.weight, layer.bias = nn.Parameter(weight_DGX.flatten(1), requires_grad=False), trained.bias
    return layer
