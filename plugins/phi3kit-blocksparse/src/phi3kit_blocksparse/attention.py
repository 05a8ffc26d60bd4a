"""Phi-3-small's attention: blocksparse on even layers, dense on odd ones, over the same projections.

Special here: rows of `query_key_value` are grouped by key/value head, ``[q, q, q, q, k, v]`` eight times; scores are
divided by the head's width, not by its root (muP, arXiv 2203.03466); and what the blocksparse one computes with
depends on where it is: `fused` on a CPU, `flex` on a GPU, `cached` after a cache, a plain mask in an exported program.

Shapes: B rows, T tokens, D hidden, H query heads, G key/value heads, K head width.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.families import Attention, Cache, Rotation
from phi3kit.model.attend import attend
from phi3kit.records import Dims
from phi3kit_blocksparse import fused
from phi3kit_blocksparse.cached import after_cache
from phi3kit_blocksparse.device import DeviceBlocksparse, DeviceGroupedDense
from phi3kit_blocksparse.heads import split_heads
from phi3kit_blocksparse.packing import each_alone
from phi3kit_blocksparse.pattern import Pattern


@final
class BlocksparseAttention(Attention):
    """Each head sees the last few blocks of tokens and one in so many of the earlier ones (report, section 2).

    Args:
        dims: the net's sizes.
        layer: index of this layer, which is also its slot in the cache.
        block_size: tokens in a block.
        local_blocks: blocks that every head sees, a token's own and those right before it.
        vertical_stride: of the blocks before those, a head sees one in so many; which one differs from head to head.
        homogeneous_heads: every head sees the same ones.
        scale: factor on q.k before the softmax; null means 1 / head_dim.
    """

    def __init__(
        self,
        dims: Dims,
        layer: int,
        block_size: int = 64,
        local_blocks: int = 16,
        vertical_stride: int = 8,
        homogeneous_heads: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        options = {"block_size": block_size, "local_blocks": local_blocks, "vertical_stride": vertical_stride}
        for name, value in options.items():
            if value < 1:
                raise UserError(f"{name} is {value}; give at least 1")
        self.layer, self.dims = layer, dims
        self.scale = 1 / dims.head_width if scale is None else scale
        self.blocks = Pattern(dims.n_heads, dims.kv_heads, block_size, local_blocks, vertical_stride, homogeneous_heads)
        self.query_key_value, self.dense = _projections(dims)

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        q_BTHK, k_BSGK, v_BSGK = split_heads(self.query_key_value(x_BTD), self.dims, rotation)
        if cache is not None:
            k_BSGK, v_BSGK = cache.append(self.layer, k_BSGK, v_BSGK)
        return self.dense(self.attend(q_BTHK, k_BSGK, v_BSGK, documents_BT).flatten(2))

    def attend(self, q_BTHK: Tensor, k_BSGK: Tensor, v_BSGK: Tensor, documents_BT: Tensor | None) -> Tensor:
        """Attention of the last T of S tokens, [B, T, H, K]."""
        new, length, device = q_BTHK.shape[1], k_BSGK.shape[1], q_BTHK.device.type
        if torch.compiler.is_exporting():
            return self._masked(q_BTHK, k_BSGK, v_BSGK)
        if length <= self.blocks.reach:
            return attend(q_BTHK, k_BSGK, v_BSGK, scale=self.scale, documents_BT=documents_BT)
        if new < length:
            return after_cache(q_BTHK, k_BSGK, v_BSGK, self.blocks, self.scale)
        if device == "cuda":
            from phi3kit_blocksparse import flex

            return flex.blocksparse(q_BTHK, k_BSGK, v_BSGK, self.blocks, self.scale, documents_BT)
        if device == "cpu":
            return fused.blocksparse(q_BTHK, k_BSGK, v_BSGK, self.blocks, self.scale, documents_BT)
        return each_alone(self._masked_alone, documents_BT, q_BTHK, k_BSGK, v_BSGK)

    def _masked_alone(self, q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor) -> Tensor:
        return self._masked(q_THK[None], k_TGK[None], v_TGK[None])[0]

    def _masked(self, q_BTHK: Tensor, k_BSGK: Tensor, v_BSGK: Tensor) -> Tensor:
        """With a mask of all keys: for exported programs, and devices without a way to skip."""
        mask_HTS = self.blocks.mask(q_BTHK.shape[1], k_BSGK.shape[1], q_BTHK.device)
        q, k, v = (x.transpose(1, 2) for x in (q_BTHK, k_BSGK, v_BSGK))
        return F.scaled_dot_product_attention(q, k, v, mask_HTS, scale=self.scale, enable_gqa=True).transpose(1, 2)

    def on_device(self) -> nn.Module:
        return DeviceBlocksparse(self)

    def pattern(self, length: int) -> Tensor:
        block = self.blocks.block
        kept_HNN = self.blocks.blocks(-(-length // block))
        seen_HTT = kept_HNN.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :length, :length]
        return seen_HTT.logical_and_(torch.ones(length, length, dtype=torch.bool).tril())


@final
class GroupedDenseAttention(Attention):
    """Causal attention over everything, with the projections of `BlocksparseAttention`: Phi-3-small's odd layers.

    Args:
        dims: the net's sizes.
        layer: index of this layer, which is also its slot in the cache.
        scale: factor on q.k before the softmax; null means 1 / head_dim.
    """

    def __init__(self, dims: Dims, layer: int, scale: float | None = None) -> None:
        super().__init__()
        self.layer, self.dims = layer, dims
        self.scale = 1 / dims.head_width if scale is None else scale
        self.query_key_value, self.dense = _projections(dims)

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        q_BTHK, k_BTGK, v_BTGK = split_heads(self.query_key_value(x_BTD), self.dims, rotation)
        if cache is not None:
            out_BTHK = cache.attend(self.layer, q_BTHK, k_BTGK, v_BTGK, scale=self.scale, window=None)
        else:
            out_BTHK = attend(q_BTHK, k_BTGK, v_BTGK, scale=self.scale, documents_BT=documents_BT)
        return self.dense(out_BTHK.flatten(2))

    def on_device(self) -> nn.Module:
        return DeviceGroupedDense(self)


def _projections(dims: Dims) -> tuple[nn.Linear, nn.Linear]:
    """`query_key_value` and `dense`, both with biases."""
    width = dims.n_heads * dims.head_width
    fused_width = width + 2 * dims.kv_heads * dims.head_width
    return nn.Linear(dims.hidden_size, fused_width), nn.Linear(width, dims.hidden_size)
