"""Attention over normalised queries and keys.

Shapes: B rows, T tokens, D hidden, H query heads, G key/value heads, K head width.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from phi3kit.families import Attention, Cache, Rotation
from phi3kit.model.attend import attend
from phi3kit.model.norm import RMSNorm
from phi3kit.model.position import rotate
from phi3kit.records import Dims


@final
class AcmeCalmAttention(Attention):
    """Grouped-query attention that normalises each query and key, so that scores cannot grow (arXiv 2302.05442).

    Args:
        dims: the net's sizes.
        layer: index of this layer, which is also its slot in the cache.
        norm_eps: added to the mean square before the root.
    """

    def __init__(self, dims: Dims, layer: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = dims.n_heads, dims.kv_heads, dims.head_width
        self.scale = self.head_dim**-0.5
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv_proj = nn.Linear(dims.hidden_size, width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, dims.hidden_size, bias=False)
        self.q_norm = RMSNorm(self.head_dim, norm_eps)
        self.k_norm = RMSNorm(self.head_dim, norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        widths = [n * self.head_dim for n in (self.heads, self.kv_heads, self.kv_heads)]
        q, k, v = self.qkv_proj(x_BTD).split(widths, dim=-1)
        q_BTHK = rotate(self.q_norm(q.unflatten(-1, (self.heads, self.head_dim))), rotation)
        k_BTGK = rotate(self.k_norm(k.unflatten(-1, (self.kv_heads, self.head_dim))), rotation)
        v_BTGK = v.unflatten(-1, (self.kv_heads, self.head_dim))
        if cache is not None:
            out_BTHK = cache.attend(self.layer, q_BTHK, k_BTGK, v_BTGK, scale=self.scale, window=None)
        else:
            out_BTHK = attend(q_BTHK, k_BTGK, v_BTGK, scale=self.scale, documents_BT=documents_BT)
        return self.o_proj(out_BTHK.flatten(2))
