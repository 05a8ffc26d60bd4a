"""A mixture of experts as a device computes it: all experts on every token, weighted by what the router gave them.

ExecuTorch 1.4 has no operator on a processor that works on the chosen experts alone, and XNNPACK takes no products
inside a branch, so there is no way to skip one: a bundle does E / K times the work of the chosen experts, and reads all
their weights for each token. What is not chosen has weight zero, so the numbers are the eager mixture's.

Shapes: N tokens, D hidden, I inner width, J = 2 I (gate, then up), E experts, K chosen.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.families import Router


@final
class DenseMixture(nn.Module):
    """``sum_e weight_e * expert_e(x)`` over all experts, each two linear layers.

    Args:
        router: the trained one; its matrices stay in fp32, since routing is decided by small differences.
        gate_up_EJD: the experts' first matrices.
        down_EDI: their second ones.
    """

    def __init__(self, router: Router, gate_up_EJD: Tensor, down_EDI: Tensor) -> None:
        super().__init__()
        self.router = in_full(router)
        self.experts = nn.ModuleList(
            Expert(gate_up_JD, down_DI) for gate_up_JD, down_DI in zip(gate_up_EJD, down_EDI, strict=True)
        )

    @property
    def device_note(self) -> str:
        """What this form costs."""
        return f"mixture of experts: a program runs all {len(self.experts)} for every token, chosen or not"

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_ND = x_BTD.flatten(0, -2)
        weights_NK, experts_NK, _ = self.router(x_ND)
        of_NKE = experts_NK[..., None] == torch.arange(len(self.experts), device=x_ND.device)
        weights_NE = (weights_NK.to(x_ND.dtype)[..., None] * of_NKE).sum(1)
        out_ND = torch.zeros_like(x_ND)
        for e, expert in enumerate(self.experts):
            out_ND = out_ND + expert(x_ND) * weights_NE[:, e, None]
        return out_ND.view(x_BTD.shape)


@final
class Expert(nn.Module):
    """``down(silu(gate(x)) * up(x))``."""

    def __init__(self, gate_up_JD: Tensor, down_DI: Tensor) -> None:
        super().__init__()
        self.gate_up_proj, self.down_proj = linear(gate_up_JD), linear(down_DI)

    def forward(self, x_ND: Tensor) -> Tensor:
        gate_NI, up_NI = self.gate_up_proj(x_ND).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate_NI) * up_NI)


@final
class Unquantized(nn.Module):
    """A linear layer that no quantizer sees."""

    def __init__(self, trained: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = trained.weight, trained.bias

    def forward(self, x_ND: Tensor) -> Tensor:
        return F.linear(x_ND, self.weight, self.bias)


def linear(matrix: Tensor) -> nn.Linear:
    """A linear layer of this matrix."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(matrix, requires_grad=False)
    return layer


def in_full(router: Router) -> Router:
    """The router, its linear layers out of a quantizer's sight."""
    for name, child in router.named_children():
        if isinstance(child, nn.Linear):
            setattr(router, name, Unquantized(child))
    return router
