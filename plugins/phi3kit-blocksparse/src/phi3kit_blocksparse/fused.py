"""Blocksparse attention on a CPU: torch's own fused kernel on pieces with little waste, forward and backward.

The pieces' softmaxes join by the logarithms of their sums. Backward, each piece's kernel is given the joint logarithm
and the joint output, and gives its share of the gradients exactly (FlashAttention, arXiv 2205.14135, appendix B.4).
The work is that of the kept blocks; beyond the output and the gradients, which are written in place, there is room for
one small piece per thread.

Shapes: B rows, T tokens, H query heads, G key/value heads, K head width; pieces as in `pieces`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phi3kit_blocksparse.packing import PADDING, runs
from phi3kit_blocksparse.pattern import Pattern
from phi3kit_blocksparse.pieces import Piece, far, near

forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@torch.compiler.disable
def blocksparse(
    q_BTHK: Tensor,
    k_BTGK: Tensor,
    v_BTGK: Tensor,
    pattern: Pattern,
    scale: float,
    documents_BT: Tensor | None = None,
) -> Tensor:
    """Attention of every document over itself, [B, T, H, K]; zeros at padding; computed in fp32 at least."""
    dtype = torch.promote_types(q_BTHK.dtype, torch.float32)
    q, k, v = (x.to(dtype).contiguous() for x in (q_BTHK, k_BTGK, v_BTGK))
    out_BTHK = Fused.apply(q, k, v, pattern, scale, documents(q_BTHK, documents_BT))
    return out_BTHK.to(q_BTHK.dtype)


Document = tuple[int, slice]  # a row, and which of its tokens


def documents(q_BTHK: Tensor, documents_BT: Tensor | None) -> list[Document]:
    """Without padding."""
    rows, length = q_BTHK.shape[:2]
    if documents_BT is None:
        return [(row, slice(0, length)) for row in range(rows)]
    found = runs(documents_BT.expand(rows, length))
    return [(run.row, slice(run.start, run.stop)) for run in found if run.number != PADDING]


@final
class Fused(torch.autograd.Function):
    """All pieces of all documents forward, then backward."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float, documents: list[Document]
    ) -> Tensor:
        """The output; what the backward pass needs is kept."""
        out_BTHK, lse_BTH = _room(q, documents), q.new_empty(q.shape[:3])
        for row, tokens in documents:
            q_THK, k_TGK, v_TGK, out_THK, lse_TH = (x[row, tokens] for x in (q, k, v, out_BTHK, lse_BTH))
            attend(q_THK, k_TGK, v_TGK, out_THK, lse_TH, pattern, scale)
        ctx.save_for_backward(q, k, v, out_BTHK, lse_BTH)
        ctx.pattern, ctx.scale, ctx.documents = pattern, scale, documents
        return out_BTHK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTHK: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        q, k, v, out_BTHK, lse_BTH = ctx.saved_tensors
        found = (_room(q, ctx.documents), torch.zeros_like(k), torch.zeros_like(v))
        everything = (grad_BTHK.contiguous(), q, k, v, out_BTHK, lse_BTH)
        for row, tokens in ctx.documents:
            document, own = Known(*(x[row, tokens] for x in everything)), [x[row, tokens] for x in found]
            gradients(document, own[0], own[1], own[2], ctx.pattern, ctx.scale)
        return *found, None, None, None


def _room(like_BTHK: Tensor, documents: list[Document]) -> Tensor:
    """Room for something at every token of the documents, zeros elsewhere."""
    inside = sum(tokens.stop - tokens.start for _, tokens in documents)
    whole = inside == like_BTHK.shape[0] * like_BTHK.shape[1]
    return torch.empty_like(like_BTHK) if whole else torch.zeros_like(like_BTHK)


def attend(
    q_THK: Tensor, k_TGK: Tensor, v_TGK: Tensor, out_THK: Tensor, lse_TH: Tensor, pattern: Pattern, scale: float
) -> None:
    """Write the output of one document, and the logarithm of each softmax's sum."""
    kernel, threads = functools.partial(forward_kernel, scale=scale), torch.get_num_threads()

    def ask(piece: Piece, keys: Tensor, values: Tensor) -> None:
        whole = piece.queries(out_THK), piece.queries(lse_TH)
        q, k, v = piece.queries(q_THK), piece.seen(keys), piece.seen(values)
        found = kernel(q, k, v, is_causal=piece.causal, attn_mask=piece.mask_rc)
        if piece.causal:
            whole[0].copy_(found[0])
            whole[1].copy_(found[1])
        else:
            _join(*whole, *found)

    for piece in near(pattern, len(q_THK), q_THK, threads):
        ask(piece, k_TGK, v_TGK)
    for columns in far(pattern, len(q_THK), threads):
        keys, values = columns.copy(k_TGK), columns.copy(v_TGK)
        for piece in columns.pieces(len(q_THK), threads):
            ask(piece, keys, values)


def _join(out_WhrK: Tensor, lse_Whr: Tensor, more_out_WhrK: Tensor, more_lse_Whr: Tensor) -> None:
    """Attention over two sets of keys, in place of that over the first, from the logarithms of their sums."""
    joint_Whr = torch.logaddexp(lse_Whr, more_lse_Whr)
    out_WhrK.mul_((lse_Whr - joint_Whr).exp_()[..., None])
    out_WhrK.addcmul_(more_out_WhrK, (more_lse_Whr - joint_Whr).exp_()[..., None])
    lse_Whr.copy_(joint_Whr)


class Known(NamedTuple):
    """What one document's gradients are computed from."""

    grad_THK: Tensor
    q_THK: Tensor
    k_TGK: Tensor
    v_TGK: Tensor
    out_THK: Tensor
    lse_TH: Tensor


def gradients(known: Known, dq_THK: Tensor, dk_TGK: Tensor, dv_TGK: Tensor, pattern: Pattern, scale: float) -> None:
    """Write the gradient of one document's queries; add those of its keys and values."""
    kernel, threads = functools.partial(backward_kernel, dropout_p=0.0, scale=scale), torch.get_num_threads()
    grad_THK, q_THK, k_TGK, v_TGK, out_THK, lse_TH = known

    def ask(piece: Piece, keys: Tensor, values: Tensor, add: Callable[[Tensor, Tensor], None]) -> None:
        grad, q, out, lse = (piece.queries(x) for x in (grad_THK, q_THK, out_THK, lse_TH))
        k, v = piece.seen(keys), piece.seen(values)
        dq, dk, dv = kernel(grad, q, k, v, out, lse, is_causal=piece.causal, attn_mask=piece.mask_rc)
        if piece.causal:
            piece.queries(dq_THK).copy_(dq)
        else:
            piece.queries(dq_THK).add_(dq)
        add(dk_TGK, dk)
        add(dv_TGK, dv)

    for whole in near(pattern, len(q_THK), q_THK, threads):
        for piece in whole.parts():
            ask(piece, k_TGK, v_TGK, piece.add)
    for columns in far(pattern, len(q_THK), threads):
        keys, values = columns.copy(k_TGK), columns.copy(v_TGK)
        for piece in columns.pieces(len(q_THK), threads):
            ask(piece, keys, values, columns.add)
