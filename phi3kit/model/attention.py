"""Grouped-query attention, Phi-3's own, with an optional sliding window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from phi3kit.bounds import AtLeastOne
from phi3kit.families import Attention, Cache, Rotation
from phi3kit.model.attend import attend, causal_mask
from phi3kit.model.position import rotate
from phi3kit.model.rows import apart
from phi3kit.records import Dims


@final
class GroupedQueryAttention(Attention):
    """Attention whose query heads share key/value heads (arXiv 2305.13245); one matrix for q, k and v.

    Args:
        dims: the net's sizes.
        layer: index of this layer, which is also its slot in the cache.
        window: each token sees the last `window` tokens, itself included; null means all. Phi-3-mini-4k was
            trained with 2048 (its config.json says 2047, FlashAttention's count without the token itself).
        bias: all four projections have one (Phi-3.5-MoE).
    """

    def __init__(self, dims: Dims, layer: int, window: AtLeastOne | None = None, bias: bool = False) -> None:
        super().__init__()
        self.mix = Mix(layer, dims.n_heads, dims.kv_heads, dims.head_width, window, dims.head_width**-0.5)
        width = dims.n_heads * dims.head_width
        self.widths = [width, *2 * [dims.kv_heads * dims.head_width]]
        self.qkv_proj = nn.Linear(dims.hidden_size, sum(self.widths), bias=bias)
        self.o_proj = nn.Linear(width, dims.hidden_size, bias=bias)

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        q, k, v = self.qkv_proj(x_BTD).split(self.widths, dim=-1)
        return self.o_proj(self.mix(q, k, v, rotation, documents_BT, cache))

    def pattern(self, length: int) -> Tensor:
        return causal_mask(length, length, self.mix.window)[None]

    def on_device(self) -> nn.Module:
        return GroupedQueryAttentionApart(self)


@final
class GroupedQueryAttentionApart(nn.Module):
    """`GroupedQueryAttention` with matrices of their own for queries, keys and values.

    Args:
        trained: whose matrices it takes over.
    """

    def __init__(self, trained: GroupedQueryAttention) -> None:
        super().__init__()
        self.mix = trained.mix
        self.q_proj, self.k_proj, self.v_proj = apart(trained.qkv_proj, trained.widths)
        self.o_proj = trained.o_proj

    def forward(
        self, x_BTD: Tensor, rotation: Rotation, documents_BT: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        q, k, v = self.q_proj(x_BTD), self.k_proj(x_BTD), self.v_proj(x_BTD)
        return self.o_proj(self.mix(q, k, v, rotation, documents_BT, cache))

    def stores(self, kv_heads: int) -> list[int]:
        """See `Attention.stores`."""
        return [kv_heads]


@final
@dataclass(frozen=True)
class Mix:
    """What comes between the projections: heads, turned by their positions, and attention.

    Args:
        layer: slot in the cache.
        heads: H.
        kv_heads: G.
        width: K.
        window: each token sees the last `window` tokens, itself included; None means all.
        scale: factor on q.k before the softmax.
    """

    layer: int
    heads: int
    kv_heads: int
    width: int
    window: int | None
    scale: float

    def __call__(
        self,
        q_BTJ: Tensor,
        k_BTJ: Tensor,
        v_BTJ: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None,
        cache: Cache | None,
    ) -> Tensor:
        """Queries, [B, T, H K], keys and values, [B, T, G K], to [B, T, H K]."""
        rows = q_BTJ.shape[0]
        # views that infer T: XNNPACK (ExecuTorch 1.4) takes no others where T varies
        q_BTHK = rotate(q_BTJ.view(rows, -1, self.heads, self.width), rotation)
        k_BTGK = rotate(k_BTJ.view(rows, -1, self.kv_heads, self.width), rotation)
        v_BTGK = v_BTJ.view(rows, -1, self.kv_heads, self.width)
        if cache is not None:
            out_BTHK = cache.attend(self.layer, q_BTHK, k_BTGK, v_BTGK, scale=self.scale, window=self.window)
        else:
            out_BTHK = attend(q_BTHK, k_BTGK, v_BTGK, scale=self.scale, window=self.window, documents_BT=documents_BT)
        return out_BTHK.contiguous().view(rows, -1, self.heads * self.width)
