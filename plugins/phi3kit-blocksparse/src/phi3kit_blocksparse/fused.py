"""Blocksparse attention on a CPU: torch's own fused kernel on pieces without waste, forward and backward.

The pieces' softmaxes join by the logarithms of their sums. Backward, each piece's kernel is given the joint logarithm
and the joint output, and gives its share of the gradients exactly (FlashAttention, arXiv 2205.14135, appendix B.4).
The work is that of the blocks that are kept; nothing of size T x T exists, and what is held for a moment is that of a
few blocks. Products of one query block each are as fast on an idle machine, but they are a hundred times as many
parallel regions, and wait at each where another process has the core.

Shapes: T tokens, H query heads, G key/value heads, K head width; pieces as in `pieces`.
"""

from __future__ import annotations

import functools
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phi3kit_blocksparse.pattern import Pattern
from phi3kit_blocksparse.pieces import add_columns, columns, spans, windows

forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@torch.compiler.disable
def blocksparse(q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, pattern: Pattern, scale: float) -> Tensor:
    """Attention of one document over itself, [T, H, K]; computed in fp32 at least."""
    dtype = torch.promote_types(q_THK.dtype, torch.float32)
    out_THK = Fused.apply(q_THK.to(dtype), k_TGK.to(dtype), v_TGK.to(dtype), pattern, scale)
    return out_THK.to(q_THK.dtype)


@final
class Fused(torch.autograd.Function):
    """All pieces forward, then all pieces backward."""

    @staticmethod
    def forward(ctx: Any, q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, pattern: Pattern, scale: float) -> Tensor:
        """The output; what the backward pass needs is kept."""
        out_THK, lse_TH1 = attend(q_THK, k_TGK, v_TGK, pattern, scale)
        ctx.save_for_backward(q_THK, k_TGK, v_TGK, out_THK, lse_TH1)
        ctx.pattern, ctx.scale = pattern, scale
        return out_THK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_THK: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        q_THK, k_TGK, v_TGK, out_THK, lse_TH1 = ctx.saved_tensors
        found = gradients(grad_THK, q_THK, k_TGK, v_TGK, out_THK, lse_TH1, ctx.pattern, ctx.scale)
        return *found, None, None


def attend(q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, pattern: Pattern, scale: float) -> tuple[Tensor, Tensor]:
    """The output, [T, H, K], and the logarithm of the softmax's sum, [T, H, 1]."""
    kernel = functools.partial(forward_kernel, scale=scale)
    length, near = len(q_THK), slice(0, pattern.reach)
    out_THK, lse_TH1 = q_THK.new_empty(q_THK.shape), q_THK.new_empty(*q_THK.shape[:2], 1)
    out_1HrK, lse_1Hr = kernel(*(_heads_first(x[near])[None] for x in (q_THK, k_TGK, v_TGK)), is_causal=True)
    out_THK[near], lse_TH1[near] = out_1HrK[0].transpose(0, 1), lse_1Hr[0].T[..., None]
    if length <= pattern.reach:
        return out_THK, lse_TH1
    k_GTK, v_GTK = _heads_first(k_TGK), _heads_first(v_TGK)
    for window in windows(pattern, length):
        keys, values, mask = window.keys(k_GTK), window.keys(v_GTK), window.mask(q_THK)
        out_WGrK, lse_WGr = kernel(window.queries(q_THK), keys, values, attn_mask=mask)
        window.put(out_THK, out_WGrK)
        window.put(lse_TH1, lse_WGr[..., None])
    k_hcK, v_hcK = columns(pattern, k_GTK), columns(pattern, v_GTK)
    for span in spans(pattern, length):
        seen = slice(0, span.columns * pattern.block)
        out_1hrK, lse_1hr = kernel(span.take(q_THK)[None], k_hcK[None, :, seen], v_hcK[None, :, seen])
        near_out_hrK, near_lse_hr1 = span.take(out_THK), span.take(lse_TH1)
        lse_hr1 = torch.logaddexp(near_lse_hr1, lse_1hr[0, ..., None])
        joint_hrK = near_out_hrK.mul_((near_lse_hr1 - lse_hr1).exp_())
        joint_hrK.addcmul_(out_1hrK[0], (lse_1hr[0, ..., None] - lse_hr1).exp_())
        span.put(out_THK, joint_hrK)
        span.put(lse_TH1, lse_hr1)
    return out_THK, lse_TH1


def gradients(
    grad_THK: Tensor,
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGK: Tensor,
    out_THK: Tensor,
    lse_TH1: Tensor,
    pattern: Pattern,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    kernel = functools.partial(backward_kernel, dropout_p=0.0, scale=scale)
    length, near = len(q_THK), slice(0, pattern.reach)
    k_GTK, v_GTK = _heads_first(k_TGK), _heads_first(v_TGK)
    dq_THK = q_THK.new_empty(q_THK.shape)
    dk_GTK, dv_GTK = k_GTK.new_zeros(k_GTK.shape), v_GTK.new_zeros(v_GTK.shape)
    queries = (grad_THK, q_THK, out_THK, lse_TH1)
    grad, q, out, lse = (_heads_first(x[near])[None].contiguous() for x in queries)
    dq, dk, dv = kernel(grad, q, k_GTK[None, :, near], v_GTK[None, :, near], out, lse[..., 0], is_causal=True)
    dq_THK[near], dk_GTK[:, near], dv_GTK[:, near] = dq[0].transpose(0, 1), dk[0], dv[0]
    for window in windows(pattern, length):
        grad, q, out, lse = (window.queries(x) for x in queries)
        keys, values, mask = window.keys(k_GTK), window.keys(v_GTK), window.mask(q_THK)
        dq, dk, dv = kernel(grad, q, keys, values, out, lse[..., 0], is_causal=False, attn_mask=mask)
        window.put(dq_THK, dq)
        window.add_keys(dk_GTK, dk)
        window.add_keys(dv_GTK, dv)
    k_hcK, v_hcK = columns(pattern, k_GTK), columns(pattern, v_GTK)
    dk_hcK, dv_hcK = torch.zeros_like(k_hcK), torch.zeros_like(v_hcK)
    for span in spans(pattern, length):
        seen = slice(0, span.columns * pattern.block)
        grad, q, out, lse = (span.take(x)[None] for x in queries)
        dq, dk, dv = kernel(grad, q, k_hcK[None, :, seen], v_hcK[None, :, seen], out, lse[..., 0], is_causal=False)
        span.put(dq_THK, span.take(dq_THK).add_(dq[0]))
        dk_hcK[:, seen] += dk[0]
        dv_hcK[:, seen] += dv[0]
    add_columns(pattern, dk_hcK, dk_GTK)
    add_columns(pattern, dv_hcK, dv_GTK)
    return dq_THK, dk_GTK.transpose(0, 1), dv_GTK.transpose(0, 1)


def _heads_first(x_THK: Tensor) -> Tensor:
    return x_THK.transpose(0, 1)
