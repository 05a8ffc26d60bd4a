"""Grouped-query attention, Phi-3's own, with an optional sliding window."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from phi3kit.families import Attention, Cache, Rotation
from phi3kit.model.attend import attend, causal_mask
from phi3kit.model.position import rotate
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

    def __init__(self, dims: Dims, layer: int, window: int | None = None, bias: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.window = window
        self.heads, self.kv_heads, self.head_dim = dims.n_heads, dims.kv_heads, dims.head_width
        self.scale = self.head_dim**-0.5
        self.qkv_proj = nn.Linear(dims.hidden_size, (self.heads + 2 * self.kv_heads) * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, dims.hidden_size, bias=bias)

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        widths = [n * self.head_dim for n in (self.heads, self.kv_heads, self.kv_heads)]
        q, k, v = self.qkv_proj(x_BTD).split(widths, dim=-1)
        q_BTHK = rotate(q.unflatten(-1, (self.heads, self.head_dim)), rotation)
        k_BTGK = rotate(k.unflatten(-1, (self.kv_heads, self.head_dim)), rotation)
        v_BTGK = v.unflatten(-1, (self.kv_heads, self.head_dim))
        if cache is not None:
            out_BTHK = cache.attend(self.layer, q_BTHK, k_BTGK, v_BTGK, scale=self.scale, window=self.window)
        else:
            out_BTHK = attend(q_BTHK, k_BTGK, v_BTGK, scale=self.scale, window=self.window, documents_BT=documents_BT)
        return self.o_proj(out_BTHK.flatten(2))

    def pattern(self, length: int) -> Tensor:
        return causal_mask(length, length, self.window)[None]
