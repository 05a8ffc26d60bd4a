"""The rows of `query_key_value` as heads.

Shapes: B rows, T tokens, J numbers of a row, H query heads, G key/value heads, K head width, N = H / G.
"""

from __future__ import annotations

from torch import Tensor

from phi3kit.families import Rotation
from phi3kit.model.position import rotate
from phi3kit.records import Dims


def split_heads(rows_BTJ: Tensor, dims: Dims, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values out of rows grouped by key/value head; queries and keys rotated."""
    share = dims.n_heads // dims.kv_heads
    grouped_BTGNK = rows_BTJ.unflatten(-1, (dims.kv_heads, share + 2, dims.head_width))
    q_BTHK = grouped_BTGNK[..., :share, :].flatten(2, 3)
    k_BTGK, v_BTGK = grouped_BTGNK[..., share, :], grouped_BTGNK[..., share + 1, :]
    return rotate(q_BTHK, rotation), rotate(k_BTGK, rotation), v_BTGK
