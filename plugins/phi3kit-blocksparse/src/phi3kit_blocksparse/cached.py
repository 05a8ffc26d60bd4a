"""Blocksparse attention of a few new tokens over a cache, reading only the blocks that the pattern keeps.

On a CPU the blocks are views of the cache, read where they are: the window as one piece, a head's columns as a batch
of blocks; elsewhere each head's blocks are gathered first. A decoding step reads 16 + 14 of the 128 blocks of 8,192
tokens for each of Phi-3-small's heads.

Shapes: B rows, T new tokens of one query block, S cached and new tokens, H query heads, G key/value heads, K head
width; n columns of h heads, r = heads of a key/value head times T.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from phi3kit_blocksparse.fused import forward_kernel
from phi3kit_blocksparse.pattern import Group, Pattern


def after_cache(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGK: Tensor, pattern: Pattern, scale: float) -> Tensor:
    """Attention of the last T of S tokens, [B, T, H, K], one query block after another."""
    start, length, outputs = k_BSGK.shape[1] - q_BTHK.shape[1], k_BSGK.shape[1], []
    attend = _in_place if q_BTHK.device.type == "cpu" else gathered
    for i in range(start // pattern.block, (length - 1) // pattern.block + 1):
        begin, end = max(start, i * pattern.block), min(length, (i + 1) * pattern.block)
        outputs.append(attend(q_BTHK[:, begin - start : end - start], k_BSGK[:, :end], v_BSGK[:, :end], pattern, scale))
    return torch.cat(outputs, dim=1)


def gathered(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGK: Tensor, pattern: Pattern, scale: float) -> Tensor:
    """Attention of new tokens of one query block over copies of the blocks that each head sees."""
    new, length, device = q_BTHK.shape[1], k_BSGK.shape[1], q_BTHK.device
    i = (length - 1) // pattern.block
    seen = [pattern.columns(head, i) for head in range(pattern.heads)]
    most = max(map(len, seen))
    blocks_HN = torch.tensor([[i] * (most - len(columns)) + columns for columns in seen], device=device)
    missing_H1 = torch.tensor([[most - len(columns)] for columns in seen], device=device)
    real_HL = (torch.arange(most, device=device) >= missing_H1).repeat_interleave(pattern.block, dim=1)
    keys_HL = (blocks_HN[..., None] * pattern.block + torch.arange(pattern.block, device=device)).flatten(1)
    places_T = torch.arange(length - new, length, device=device)
    mask_HTL = real_HL[:, None, :] & (keys_HL[:, None, :] <= places_T[None, :, None])
    keys_HL = keys_HL.clamp(max=length - 1)
    heads_H1 = torch.arange(pattern.heads, device=device)[:, None] // (pattern.heads // pattern.kv_heads)
    out_BHTK = F.scaled_dot_product_attention(
        q_BTHK.transpose(1, 2), k_BSGK[:, keys_HL, heads_H1], v_BSGK[:, keys_HL, heads_H1], mask_HTL, scale=scale
    )
    return out_BHTK.transpose(1, 2)


def _in_place(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGK: Tensor, pattern: Pattern, scale: float) -> Tensor:
    rows = zip(q_BTHK, k_BSGK.transpose(1, 2), v_BSGK.transpose(1, 2), strict=True)
    return torch.stack([_row_in_place(q_THK, k_GSK, v_GSK, pattern, scale) for q_THK, k_GSK, v_GSK in rows])


def _row_in_place(q_THK: Tensor, k_GSK: Tensor, v_GSK: Tensor, pattern: Pattern, scale: float) -> Tensor:
    """Window and columns, joined by the logarithms of their softmaxes' sums."""
    i = (k_GSK.shape[1] - 1) // pattern.block
    q_HTK = q_THK.transpose(0, 1)
    out_HTK, lse_HT = _window(q_HTK, k_GSK, v_GSK, pattern, scale, i)
    for group in pattern.groups:
        number = pattern.remote(group.first, i)
        if number:
            k_nhbK, v_nhbK = (_columns(x_GSK, group, pattern, number) for x_GSK in (k_GSK, v_GSK))
            q_nhTK = q_HTK[group.heads].expand(number, -1, -1, -1)
            out_nhTK, lse_nhT = forward_kernel(q_nhTK, k_nhbK, v_nhbK, scale=scale)
            shares = torch.cat((lse_nhT, lse_HT[None, group.heads])).softmax(0)[..., None]
            joint = (shares * torch.cat((out_nhTK, out_HTK[None, group.heads]))).sum(0)
            out_HTK[group.heads] = joint.to(out_HTK.dtype)
    return out_HTK.transpose(0, 1)


def _window(
    q_HTK: Tensor, k_GSK: Tensor, v_GSK: Tensor, pattern: Pattern, scale: float, i: int
) -> tuple[Tensor, Tensor]:
    """Over the local window of query block i: the output, [H, T, K], and its logarithm, [H, T]."""
    near = slice(max(0, i - pattern.local + 1) * pattern.block, None)
    k_G1cK, v_G1cK = k_GSK[:, None, near], v_GSK[:, None, near]
    new, width, heads = q_HTK.shape[1], k_G1cK.shape[2], pattern.heads // pattern.kv_heads
    q_G1rK = q_HTK.unflatten(0, (-1, heads)).flatten(1, 2)[:, None]
    mask = None
    if new > 1:
        mask = torch.full((new, width), float("-inf"), dtype=q_HTK.dtype).triu(width - new + 1).repeat(heads, 1)
    found = forward_kernel(q_G1rK, k_G1cK, v_G1cK, attn_mask=mask, scale=scale)
    out_HTK, lse_HT = (x_G1r[:, 0].unflatten(1, (heads, new)).flatten(0, 1) for x_G1r in found)
    return out_HTK, lse_HT


def _columns(k_GSK: Tensor, group: Group, pattern: Pattern, number: int) -> Tensor:
    """A view of the first `number` of the group's columns, [n, h, block, K]."""
    stop = (group.first + (number - 1) * pattern.stride + 1) * pattern.block
    k_hnbK = k_GSK[group.kv_heads, :stop].unflatten(1, (-1, pattern.block))[:, group.first :: pattern.stride]
    return k_hnbK.transpose(0, 1)
