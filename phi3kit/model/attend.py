"""Causal attention over given keys and values, in plain PyTorch: the one place that builds masks.

Shapes: B rows, T query tokens, S key tokens (S >= T, the queries are the last T), H query heads, G key/value
heads, K head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LONG = 8192  # tokens; in longer rows documents are attended one after the other: a mask of 128K tokens takes 17 GB


def attend(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGK: Tensor,
    *,
    scale: float,
    window: int | None = None,
    documents_BT: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention, [B, T, H, K].

    Args:
        scale: factor on q.k before the softmax.
        window: each token sees the last `window` tokens, itself included; None: all before it.
        documents_BT: each token sees only its own document (S must equal T), whose tokens stand side by side.
    """
    queries, keys = q_BTHK.shape[1], k_BSGK.shape[1]
    if documents_BT is not None and not torch.compiler.is_exporting() and queries > LONG:
        return _one_by_one(q_BTHK, k_BSGK, v_BSGK, scale, window, documents_BT)
    plain = window is None and documents_BT is None and queries in (1, keys)  # the fused kernels need no mask
    mask = None if plain else _mask(queries, keys, window, documents_BT, q_BTHK.device)
    out_BHTK = F.scaled_dot_product_attention(
        q_BTHK.transpose(1, 2),
        k_BSGK.transpose(1, 2),
        v_BSGK.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None and bool(queries > 1),  # a symbol while exporting
        scale=scale,
        enable_gqa=q_BTHK.shape[2] != k_BSGK.shape[2],
    )
    return out_BHTK.transpose(1, 2)


def _one_by_one(
    q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, scale: float, window: int | None, documents_BT: Tensor
) -> Tensor:
    """`attend` for each document alone: memory grows with the longest one's length, work with the squares of all."""
    rows = []
    for b, documents_T in enumerate(documents_BT.expand(q_BTHK.shape[0], -1)):
        lengths = torch.unique_consecutive(documents_T, return_counts=True)[1].tolist()
        parts = (x_BTXK[b : b + 1].split(lengths, dim=1) for x_BTXK in (q_BTHK, k_BTGK, v_BTGK))
        rows.append(torch.cat([attend(*part, scale=scale, window=window) for part in zip(*parts, strict=True)], dim=1))
    return torch.cat(rows)


def causal_mask(queries: int, keys: int, window: int | None = None, device: torch.device | str | None = None) -> Tensor:
    """True where a query may look, [T, S]: at the keys up to its own, and at most the last `window` of them."""
    q_T1 = torch.arange(keys - queries, keys, device=device)[:, None]
    k_1S = torch.arange(keys, device=device)[None, :]
    mask_TS = k_1S <= q_T1
    return mask_TS if window is None else mask_TS & (k_1S > q_T1 - window)


def _mask(queries: int, keys: int, window: int | None, documents_BT: Tensor | None, device: torch.device) -> Tensor:
    """True where a query may look, [T, S] or [B, 1, T, S]."""
    mask = causal_mask(queries, keys, window, device)
    if documents_BT is not None:
        mask = mask & (documents_BT[:, None, :, None] == documents_BT[:, None, None, :])
    return mask
