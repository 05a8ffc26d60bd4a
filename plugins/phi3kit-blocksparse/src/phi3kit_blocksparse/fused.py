"""Blocksparse attention on a CPU: torch's own fused kernel on pieces with little waste, forward and backward.

The pieces' softmaxes join by the logarithms of their sums. Backward, each piece's kernel is given the joint logarithm
and the joint output, and gives its share of the gradients exactly (FlashAttention, arXiv 2205.14135, appendix B.4).
The work is that of the kept blocks and a fifth of the windows' more; nothing of size T x T exists. Products of one
query block each are as fast on an idle machine, but they are a hundred times as many parallel regions, and wait at
each where another process has the core.

Shapes: T tokens, H query heads, G key/value heads, K head width; pieces as in `pieces`.
"""

from __future__ import annotations

import functools
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phi3kit_blocksparse.pattern import Pattern
from phi3kit_blocksparse.pieces import add_columns, bundles, columns, spans, windows

forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@torch.compiler.disable
def blocksparse(q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, pattern: Pattern, scale: float) -> Tensor:
    """Attention of one document over itself, [T, H, K]; computed in fp32 at least."""
    dtype = torch.promote_types(q_THK.dtype, torch.float32)
    q, k, v = (x.to(dtype).contiguous() for x in (q_THK, k_TGK, v_TGK))
    out_THK = Fused.apply(q, k, v, pattern, scale)
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
        found = gradients(grad_THK.contiguous(), q_THK, k_TGK, v_TGK, out_THK, lse_TH, ctx.pattern, ctx.scale)
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
    for bundle in bundles(pattern):
        far = [columns(pattern, bundle, x) for x in (k_TGK, v_TGK)]
        for span in spans(pattern, bundle, length):
            keys, values = (x_NhcK[span.place, :, span.keys] for x_NhcK in far)
            found = kernel(span.queries(q_THK), keys, values)
            _join(span.queries(out_THK), span.queries(lse_TH), *found)
    return out_THK, lse_TH


def _join(out_NhrK: Tensor, lse_Nhr: Tensor, far_out_NhrK: Tensor, far_lse_Nhr: Tensor) -> None:
    """Attention over two sets of keys, in place of that over the first, from the logarithms of their sums."""
    joint_Nhr = torch.logaddexp(lse_Nhr, far_lse_Nhr)
    out_NhrK.mul_((lse_Nhr - joint_Nhr).exp_()[..., None])
    out_NhrK.addcmul_(far_out_NhrK, (far_lse_Nhr - joint_Nhr).exp_()[..., None])
    lse_Nhr.copy_(joint_Nhr)


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
    everything = (grad_THK, q_THK, k_TGK, v_TGK, out_THK, lse_TH)
    found = kernel(*(_heads_first(x[near])[None] for x in everything), is_causal=True)
    dq_THK[near], dk_TGK[near], dv_TGK[near] = (_heads_first(x[0]) for x in found)
    for window in windows(pattern, length):
        grad, q, out, lse = (window.queries(x) for x in (grad_THK, q_THK, out_THK, lse_TH))
        keys, values, mask = window.keys(k_TGK), window.keys(v_TGK), window.mask(q_THK)
        dq, dk, dv = kernel(grad, q, keys, values, out, lse, is_causal=False, attn_mask=mask)
        window.queries(dq_THK).copy_(dq)
        window.add_keys(dk_TGK, dk)
        window.add_keys(dv_TGK, dv)
    for bundle in bundles(pattern):
        far = [columns(pattern, bundle, x) for x in (k_TGK, v_TGK)]
        far_gradients = [torch.zeros_like(x_NhcK) for x_NhcK in far]
        for span in spans(pattern, bundle, length):
            grad, q, out, lse = (span.queries(x) for x in (grad_THK, q_THK, out_THK, lse_TH))
            keys, values = (x_NhcK[span.place, :, span.keys] for x_NhcK in far)
            dq, *found = kernel(grad, q, keys, values, out, lse, is_causal=False)
            span.queries(dq_THK).add_(dq)
            for place, part in zip(far_gradients, found, strict=True):
                place[span.place, :, span.keys] += part
        for whole, part in zip((dk_TGK, dv_TGK), far_gradients, strict=True):
            add_columns(pattern, bundle, whole, part)
    return dq_THK, dk_TGK, dv_TGK


def _heads_first(x_THK: Tensor) -> Tensor:
    return x_THK.transpose(0, 1)
