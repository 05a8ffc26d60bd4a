"""SparseMixer-v2, the router of Phi-3.5-MoE (GRIN, arXiv 2409.12136, section 2).

Special here: the experts of a token are chosen one after the other, each by a softmax of its own over the experts
that come close to the best one left. The weights are those softmaxes' values, not renormalised: two experts weigh
almost 2 together. In training an expert is sampled, and the gradient is that of Heun's third-order method.

Shapes: N tokens, D hidden, E experts, K chosen experts; a 1 is an axis kept.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from phi3kit import UserError
from phi3kit.families import Router, Routing
from phi3kit.records import Dims
from phi3kit_moe.gate import scores

# the weight of a half step: 1/3 and 1 as the released code writes them (transformers, `phimoe.sparsemixer`)
HALF_STEP, REST = 0.3333, 0.6667
ALWAYS_WHOLE = 0.75  # above it a uniform draw makes a whole step: one in four (the same function)


@final
class SparseMixer(Router):
    """SparseMixer-v2: a softmax per chosen expert, over the experts within a margin of the best one left.

    Args:
        dims: the net's sizes.
        n_experts: how many there are to choose from.
        jitter: an expert is dropped where its score is further from the best than twice this, relative to the larger
            of the two (HF config: router_jitter_noise).
        chosen: experts per token; Phi-3.5-MoE has 2.
    """

    def __init__(self, dims: Dims, n_experts: int, jitter: float = 0.01, chosen: int = 2) -> None:
        super().__init__()
        if not 1 <= chosen <= n_experts:
            raise UserError(f"SparseMixer: {chosen} chosen of {n_experts} experts; give 1 to {n_experts}")
        self.jitter, self.chosen = jitter, chosen
        self.gate = nn.Linear(dims.hidden_size, n_experts, bias=False)

    def forward(self, x_ND: Tensor) -> Routing:
        scores_NE = scores(x_ND, self.gate)
        weights_NK, experts_NK = sparse_mixer(scores_NE, self.jitter, self.chosen, sample=self.training)
        return Routing(weights_NK, experts_NK, scores_NE.softmax(-1))


def sparse_mixer(scores_NE: Tensor, jitter: float, chosen: int, sample: bool) -> tuple[Tensor, Tensor]:
    """Weights and experts, [N, K] each.

    Args:
        scores_NE: the router's logits.
        jitter: half the relative margin within which experts stay in the running.
        chosen: K.
        sample: draw each expert (training) instead of taking the best; draws come from torch's global generator.
    """
    taken_NE = torch.zeros_like(scores_NE, dtype=torch.bool)
    experts_E = torch.arange(scores_NE.shape[-1], device=scores_NE.device)
    weights, experts = [], []
    for _ in range(chosen):
        out_NE, best_N1 = _out_of_the_running(scores_NE, taken_NE, jitter)
        gates_NE = scores_NE.masked_fill(out_NE, -torch.inf).softmax(-1)
        if sample:
            best_N1 = _gumbel_max(scores_NE, out_NE)
            weights.append(_HeunStep.apply(scores_NE, gates_NE.detach(), best_N1, _step_size(gates_NE, best_N1)))
        else:
            weights.append(gates_NE.gather(-1, best_N1))
        experts.append(best_N1)
        taken_NE = taken_NE | (experts_E == best_N1)
    return torch.cat(weights, dim=-1), torch.cat(experts, dim=-1)


def _out_of_the_running(scores_NE: Tensor, taken_NE: Tensor, jitter: float) -> tuple[Tensor, Tensor]:
    """Experts already taken or too far below the best one left, [N, E], and that best one, [N, 1]; nothing in them has
    a gradient."""
    top_N1, best_N1 = scores_NE.masked_fill(taken_NE, -torch.inf).max(-1, keepdim=True)
    distance_NE = (top_N1 - scores_NE) / scores_NE.abs().clamp(min=top_N1)
    return taken_NE | (distance_NE > 2 * jitter), best_N1


@torch.no_grad()
def _gumbel_max(scores_NE: Tensor, out_NE: Tensor) -> Tensor:
    """A draw from the softmax over the experts in the running, [N, 1] (arXiv 1411.0030: -log Exp(1) is Gumbel)."""
    gumbel_NE = -torch.empty_like(scores_NE).exponential_().log()
    return (scores_NE + gumbel_NE).masked_fill(out_NE, -torch.inf).argmax(-1, keepdim=True)


@torch.no_grad()
def _step_size(gates_NE: Tensor, expert_N1: Tensor) -> Tensor:
    """1 for the likeliest expert and one draw in four of the others, else 1/3, [N, 1]."""
    top_N1, likeliest_N1 = gates_NE.max(-1, keepdim=True)
    whole_N1 = (expert_N1 == likeliest_N1) | (torch.rand_like(top_N1) > ALWAYS_WHOLE)
    return HALF_STEP + REST * whole_N1.to(gates_NE.dtype)


class _HeunStep(torch.autograd.Function):
    """``gates[expert] * size``, with the softmax's gradient: the size is not in it (transformers, PhimoeMultiplier)."""

    @staticmethod
    def forward(ctx: Any, scores_NE: Tensor, gates_NE: Tensor, expert_N1: Tensor, size_N1: Tensor) -> Tensor:
        gate_N1 = gates_NE.gather(-1, expert_N1)
        ctx.save_for_backward(gates_NE, expert_N1, gate_N1)
        return gate_N1 * size_N1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N1: Tensor) -> tuple[Tensor, None, None, None]:
        gates_NE, expert_N1, gate_N1 = ctx.saved_tensors
        slope_N1 = grad_N1 * gate_N1
        return (-slope_N1 * gates_NE).scatter_add(-1, expert_N1, slope_N1), None, None, None
