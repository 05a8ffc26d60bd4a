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
from phi3kit.model import GatedMLPApart


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
            GatedMLPApart(linear(gate_up_JD), linear(down_DI))
            for gate_up_JD, down_DI in zip(gate_up_EJD, down_EDI, strict=True)
        )
        # an expert's weights are taken out of all by a product with a matrix of its own: XNNPACK takes no columns where
        # N varies, and products that share a matrix for one piece
        for e, pick_E in enumerate(torch.eye(len(self.experts), device="cpu")):
            self.register_buffer(f"pick_{e}_1E", pick_E[None].clone(), persistent=False)

    @property
    def device_note(self) -> str:
        """What this form costs."""
        return f"mixture of experts: a program runs all {len(self.experts)} for every token, chosen or not"

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_ND = x_BTD.view(-1, x_BTD.shape[-1])
        weights_NK, experts_NK, _ = self.router(x_ND)
        of_NKE = experts_NK[..., None] == torch.arange(len(self.experts), device=x_ND.device)
        weights_NE = (weights_NK.to(x_ND.dtype)[..., None] * of_NKE).sum(1)
        out_ND = None
        for e, expert in enumerate(self.experts):
            given_ND = expert(x_ND) * F.linear(weights_NE, self.get_buffer(f"pick_{e}_1E").to(x_ND.dtype))
            out_ND = given_ND if out_ND is None else out_ND + given_ND
        assert out_ND is not None
        return out_ND.view(x_BTD.shape[0], -1, x_BTD.shape[-1])


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
