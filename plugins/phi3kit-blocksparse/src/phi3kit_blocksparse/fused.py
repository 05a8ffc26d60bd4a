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
from phi3kit_blocksparse.pieces import columns, spans, windows

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
        out_THK, lse_TH = attend(q_THK, k_TGK, v_TGK, pattern, scale)
        ctx.save_for_backward(q_THK, k_TGK, v_TGK, out_THK, lse_TH)
        ctx.pattern, ctx.scale = pattern, scale
        return out_THK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_THK: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        q_THK, k_TGK, v_TGK, out_THK, lse_TH = ctx.saved_tensors
        found = gradients(grad_THK, q_THK, k_TGK, v_TGK, out_THK, lse_TH, ctx.pattern, ctx.scale)
        return *found, None, None


def attend(q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, pattern: Pattern, scale: float) -> tuple[Tensor, Tensor]:
    """The output, [T, H, K], and the logarithm of the softmax's sum, [T, H]."""
    kernel = functools.partial(forward_kernel, scale=scale)
    length, near = len(q_THK), slice(0, pattern.reach)
    out_THK, lse_TH = q_THK.new_empty(q_THK.shape), q_THK.new_empty(q_THK.shape[:2])
    out_1HrK, lse_1Hr = kernel(*(_heads_first(x[near])[None] for x in (q_THK, k_TGK, v_TGK)), is_causal=True)
    out_THK[near], lse_TH[near] = _heads_first(out_1HrK[0]), lse_1Hr[0].T
    for window in windows(pattern, length):
        keys, values, mask = window.keys(k_TGK), window.keys(v_TGK), window.mask(q_THK)
        found = kernel(window.queries(q_THK), keys, values, attn_mask=mask)
        for whole, part in zip((out_THK, lse_TH), found, strict=True):
            window.queries(whole).copy_(part)
    for group in pattern.groups:
        k_hcK, v_hcK = (_side_by_side(columns(pattern, group, x)) for x in (k_TGK, v_TGK))
        for span in spans(pattern, group, length):
            found = kernel(span.queries(q_THK), k_hcK[None, :, span.keys], v_hcK[None, :, span.keys])
            _join(span.queries(out_THK), span.queries(lse_TH), *found)
    return out_THK, lse_TH


def _join(out_1hrK: Tensor, lse_1hr: Tensor, far_out_1hrK: Tensor, far_lse_1hr: Tensor) -> None:
    """Attention over two sets of keys, in place of that over the first, from the logarithms of their sums."""
    joint_1hr = torch.logaddexp(lse_1hr, far_lse_1hr)
    out_1hrK.mul_((lse_1hr - joint_1hr).exp_()[..., None])
    out_1hrK.addcmul_(far_out_1hrK, (far_lse_1hr - joint_1hr).exp_()[..., None])
    lse_1hr.copy_(joint_1hr)


def gradients(
    grad_THK: Tensor,
    q_THK: Tensor,
    k_TGK: Tensor,
    v_TGK: Tensor,
    out_THK: Tensor,
    lse_TH: Tensor,
    pattern: Pattern,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    kernel = functools.partial(backward_kernel, dropout_p=0.0, scale=scale)
    length, near = len(q_THK), slice(0, pattern.reach)
    dq_THK = q_THK.new_empty(q_THK.shape)
    dk_TGK, dv_TGK = k_TGK.new_zeros(k_TGK.shape), v_TGK.new_zeros(v_TGK.shape)
    whole = (grad_THK, q_THK, k_TGK, v_TGK, out_THK, lse_TH)
    found = kernel(*(_heads_first(x[near])[None] for x in whole), is_causal=True)
    dq_THK[near], dk_TGK[near], dv_TGK[near] = (_heads_first(x[0]) for x in found)
    for window in windows(pattern, length):
        grad, q, out, lse = (window.queries(x) for x in (grad_THK, q_THK, out_THK, lse_TH))
        keys, values, mask = window.keys(k_TGK), window.keys(v_TGK), window.mask(q_THK)
        dq, dk, dv = kernel(grad, q, keys, values, out, lse, is_causal=False, attn_mask=mask)
        window.queries(dq_THK).copy_(dq)
        window.add_keys(dk_TGK, dk)
        window.add_keys(dv_TGK, dv)
    for group in pattern.groups:
        k_hcK, v_hcK = (_side_by_side(columns(pattern, group, x)) for x in (k_TGK, v_TGK))
        dk_hcK, dv_hcK = torch.zeros_like(k_hcK), torch.zeros_like(v_hcK)
        for span in spans(pattern, group, length):
            grad, q, out, lse = (span.queries(x) for x in (grad_THK, q_THK, out_THK, lse_TH))
            keys, values = k_hcK[None, :, span.keys], v_hcK[None, :, span.keys]
            dq, dk, dv = kernel(grad, q, keys, values, out, lse, is_causal=False)
            span.queries(dq_THK).add_(dq)
            dk_hcK[:, span.keys] += dk[0]
            dv_hcK[:, span.keys] += dv[0]
        for x_TGK, x_hcK in ((dk_TGK, dk_hcK), (dv_TGK, dv_hcK)):
            place = columns(pattern, group, x_TGK)
            place += x_hcK.transpose(0, 1).unflatten(0, place.shape[:2])
    return dq_THK, dk_TGK, dv_TGK


def _heads_first(x_THK: Tensor) -> Tensor:
    return x_THK.transpose(0, 1)


def _side_by_side(columns_nbhK: Tensor) -> Tensor:
    """Copied together, [h, c, K]."""
    return columns_nbhK.flatten(0, 1).transpose(0, 1).contiguous()
