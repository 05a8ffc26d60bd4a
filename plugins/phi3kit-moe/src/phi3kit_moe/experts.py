"""The work of the chosen experts, and no other: three ways, the same numbers.

Special here: tokens are sorted by expert, so that each expert multiplies its own in one matrix product.
`by_expert`, for processors, works on the rows of a few experts at a time, while they are in the cache, and has its own
backward pass, which keeps only the gate's inputs. `grouped`, for CUDA in bfloat16, is one
grouped product for all experts. `gathered`, for programs that are exported, has no shape that depends on the routing.
All give the same bits every time: no sum's order is left to chance.

Shapes: N tokens, K chosen experts per token, S = N K rows sorted by expert, n some of them, D hidden, I inner
width, J = 2 I (gate, then up), E experts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TOGETHER = 256  # rows: enough that starting an operator costs little, few enough for a core's own cache


def mix(x_ND: Tensor, weights_NK: Tensor, experts_NK: Tensor, gate_up_EJD: Tensor, down_EDI: Tensor) -> Tensor:
    """``sum_k weight_k * expert_k(x)`` with ``expert(x) = down(silu(gate(x)) * up(x))``, [N, D]."""
    way = by_expert
    if torch.compiler.is_exporting():
        way = gathered
    elif _has_grouped_products(x_ND):
        way = grouped
    return way(x_ND, weights_NK, experts_NK, gate_up_EJD, down_EDI)


def _has_grouped_products(x_ND: Tensor) -> bool:
    """Kernels for jagged groups: CUDA from Ampere on, bfloat16 (`torch.nn.functional.grouped_mm`)."""
    return x_ND.is_cuda and x_ND.dtype == torch.bfloat16 and torch.cuda.get_device_capability(x_ND.device) >= (8, 0)


class Groups(NamedTuple):
    """Tokens sorted by expert: `order_S` are places in the flat [N K] choice, `sent_E` how many each expert has."""

    order_S: Tensor
    sent_E: Tensor


def groups(experts_NK: Tensor, n_experts: int) -> Groups:
    """Sort the choices by expert; tokens of one expert keep their order."""
    choice_S = experts_NK.flatten()
    sent_E = torch.zeros(n_experts, dtype=torch.int64, device=choice_S.device)
    return Groups(choice_S.argsort(stable=True), sent_E.scatter_add(0, choice_S, torch.ones_like(choice_S)))


def by_expert(x_ND: Tensor, weights_NK: Tensor, experts_NK: Tensor, gate_up_EJD: Tensor, down_EDI: Tensor) -> Tensor:
    """One expert after the other."""
    return _ByExpert.apply(x_ND, weights_NK, experts_NK, gate_up_EJD, down_EDI, torch.is_grad_enabled())


def grouped(x_ND: Tensor, weights_NK: Tensor, experts_NK: Tensor, gate_up_EJD: Tensor, down_EDI: Tensor) -> Tensor:
    """All experts in one grouped matrix product."""
    tokens, chosen = experts_NK.shape
    order_S, sent_E = groups(experts_NK, gate_up_EJD.shape[0])
    ends_E = sent_E.cumsum(0).to(torch.int32)
    # a row per choice before sorting: the gradient is then a sum over k, not a scatter with clashes
    x_SD = x_ND[:, None].expand(-1, chosen, -1).reshape(tokens * chosen, -1)[order_S]
    gate_SI, up_SI = F.grouped_mm(x_SD, gate_up_EJD.mT, offs=ends_E).chunk(2, dim=-1)
    y_SD = F.grouped_mm(F.silu(gate_SI) * up_SI, down_EDI.mT, offs=ends_E)
    y_SD = y_SD * weights_NK.flatten()[order_S, None]
    return y_SD[order_S.argsort()].view(tokens, chosen, -1).sum(1)


def gathered(x_ND: Tensor, weights_NK: Tensor, experts_NK: Tensor, gate_up_EJD: Tensor, down_EDI: Tensor) -> Tensor:
    """A copy of the chosen experts' matrices for each token: little for one token, much for a long prompt."""
    chosen = experts_NK.shape[1]
    out_ND = torch.zeros_like(x_ND)
    for k in range(chosen):
        gate_up_N1J = x_ND[:, None] @ gate_up_EJD[experts_NK[:, k]].mT
        gate_N1I, up_N1I = gate_up_N1J.chunk(2, dim=-1)
        y_N1D = (F.silu(gate_N1I) * up_N1I) @ down_EDI[experts_NK[:, k]].mT
        out_ND = out_ND + y_N1D[:, 0] * weights_NK[:, k, None]
    return out_ND


class Share(NamedTuple):
    """Consecutive rows that are worked on together: where they are in S, and each expert's own among them."""

    rows: slice
    experts: list[tuple[int, slice]]


def shares(sent: list[int], most: int) -> list[Share]:
    """Experts that have rows, together up to `most` rows, in order; one expert's rows stay together."""
    found: list[Share] = []
    end = 0
    for e, rows in enumerate(sent):
        start, end = end, end + rows
        if not rows:
            continue
        if not found or end - found[-1].rows.start > most:
            found.append(Share(slice(start, start), []))
        first = found[-1].rows.start
        found[-1].experts.append((e, slice(start - first, end - first)))
        found[-1] = Share(slice(first, end), found[-1].experts)
    return found


class _ByExpert(torch.autograd.Function):
    """The loop over experts, forwards and backwards; n are the rows of a share."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weights_NK: Tensor,
        experts_NK: Tensor,
        gate_up_EJD: Tensor,
        down_EDI: Tensor,
        keep: bool,
    ) -> Tensor:
        order_S, sent_E = groups(experts_NK, gate_up_EJD.shape[0])
        ctx.sent = sent_E.tolist()
        # elsewhere than on a processor additions of one share could clash: a token meets one expert only once
        ctx.shares = shares(ctx.sent, TOGETHER if x_ND.device.type == "cpu" else 0)
        tokens_S, weights_S1 = order_S // experts_NK.shape[1], weights_NK.flatten()[order_S, None]
        out_ND, kept = torch.zeros_like(x_ND), []
        for rows, experts in ctx.shares:
            x_nD = x_ND.index_select(0, tokens_S[rows])
            gate_up_nJ = x_nD.new_empty(x_nD.shape[0], gate_up_EJD.shape[1])
            for e, own in experts:
                torch.mm(x_nD[own], gate_up_EJD[e].T, out=gate_up_nJ[own])
            gate_nI, up_nI = gate_up_nJ.chunk(2, dim=-1)
            hidden_nI = F.silu(gate_nI).mul_(up_nI)
            for e, own in experts:
                torch.mm(hidden_nI[own], down_EDI[e].T, out=x_nD[own])  # x is spent
            out_ND.index_add_(0, tokens_S[rows], x_nD.mul_(weights_S1[rows]))
            if keep:
                kept.append(gate_up_nJ)
        ctx.save_for_backward(x_ND, weights_S1, order_S, tokens_S, gate_up_EJD, down_EDI, *kept)
        return out_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weights_S1, order_S, tokens_S, gate_up_EJD, down_EDI, *kept = ctx.saved_tensors
        learns = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        grad_gate_up_EJD, grad_down_EDI = (_matrices(w, ctx.sent, learns) for w in (gate_up_EJD, down_EDI))
        grad_x_ND, grad_weights_S = torch.zeros_like(x_ND), torch.zeros_like(weights_S1[:, 0])
        for (rows, experts), gate_up_nJ in zip(ctx.shares, kept, strict=True):
            gate_nI, up_nI = gate_up_nJ.chunk(2, dim=-1)
            silu_nI = F.silu(gate_nI)
            hidden_nI = silu_nI * up_nI
            grad_nD, grad_hidden_nI = grad_ND.index_select(0, tokens_S[rows]), torch.empty_like(hidden_nI)
            for e, own in experts:
                torch.mm(grad_nD[own], down_EDI[e], out=grad_hidden_nI[own])
            grad_weights_S[rows] = (grad_hidden_nI * hidden_nI).sum(-1)
            grad_nD.mul_(weights_S1[rows])
            grad_gate_up_nJ = _gate_backward(grad_hidden_nI.mul_(weights_S1[rows]), gate_nI, up_nI, silu_nI)
            x_nD = x_ND.index_select(0, tokens_S[rows])
            for e, own in experts:
                if learns:
                    torch.mm(grad_nD[own].T, hidden_nI[own], out=grad_down_EDI[e])
                    torch.mm(grad_gate_up_nJ[own].T, x_nD[own], out=grad_gate_up_EJD[e])
                torch.mm(grad_gate_up_nJ[own], gate_up_EJD[e], out=grad_nD[own])  # its old content is spent
            grad_x_ND.index_add_(0, tokens_S[rows], grad_nD)
        grad_weights_S = torch.empty_like(grad_weights_S).scatter_(0, order_S, grad_weights_S)
        grad_matrices = (grad_gate_up_EJD, grad_down_EDI) if learns else (None, None)
        return grad_x_ND, grad_weights_S.view(x_ND.shape[0], -1), None, *grad_matrices, None


def _gate_backward(grad_nI: Tensor, gate_nI: Tensor, up_nI: Tensor, silu_nI: Tensor) -> Tensor:
    """Gradient of [gate | up], [n, J], from that of ``silu(gate) * up``, which is spent."""
    grad_gate_up_nJ = grad_nI.new_empty(grad_nI.shape[0], 2 * grad_nI.shape[1])
    grad_gate_nI, grad_up_nI = grad_gate_up_nJ.chunk(2, dim=-1)
    torch.mul(grad_nI, silu_nI, out=grad_up_nI)
    torch.ops.aten.silu_backward.grad_input(grad_nI.mul_(up_nI), gate_nI, grad_input=grad_gate_nI)
    return grad_gate_up_nJ


def _matrices(like_EOI: Tensor, sent: list[int], learns: bool) -> Tensor:
    """Room for the gradient of the experts' matrices, zero where an expert had no token; none where they are frozen."""
    if not learns:
        return like_EOI.new_empty(0)
    room_EOI = torch.empty_like(like_EOI)
    for e, tokens in enumerate(sent):
        if not tokens:
            room_EOI[e].zero_()
    return room_EOI
