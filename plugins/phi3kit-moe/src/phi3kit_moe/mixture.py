"""A mixture of experts in place of the feed-forward.

Special here: the balance loss is that of the last training pass; `Phase` asks for it after each one.

Shapes: B rows, T tokens, N = B T tokens, D hidden, I inner width, J = 2 I (gate, then up), E experts, K chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from phi3kit.families import Auxiliary, FeedForward, Router, Routing
from phi3kit.records import Dims
from phi3kit_moe.balance import balance_of
from phi3kit_moe.device import DenseMixture
from phi3kit_moe.experts import mix


@final
class MixtureOfExperts(FeedForward):
    """Each token goes through the few gated MLPs (SwiGLU, as `GatedMLP`) its router chooses; none is dropped.

    Args:
        dims: the net's sizes.
        layer: index of this layer.
        router: what chooses the experts of a token.
        n_experts: how many experts there are.
        inner_width: of one expert; null means the net's intermediate_size.
        balance: coefficient of the balance loss, taken as its mean over the layers (HF config: router_aux_loss_coef).
        input_jitter: in training the input is multiplied by uniform numbers in 1 ± this, once for router and experts
            (HF config: input_jitter_noise).
    """

    def __init__(
        self,
        dims: Dims,
        layer: int,
        router: Callable[[Dims, int], Router],
        n_experts: int = 16,
        inner_width: int | None = None,
        balance: float = 0.0,
        input_jitter: float = 0.0,
    ) -> None:
        super().__init__()
        inner = inner_width or dims.inner_width
        self.balance, self.input_jitter, self.n_layers = balance, input_jitter, dims.n_layers
        self.router = router(dims, n_experts)
        self.gate_up_proj = nn.Parameter(torch.empty(n_experts, 2 * inner, dims.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(n_experts, dims.hidden_size, inner))
        for matrices in (self.gate_up_proj, self.down_proj):
            bound = matrices.shape[-1] ** -0.5  # as nn.Linear; a Decoder initialises again
            nn.init.uniform_(matrices, -bound, bound)
        self._last: Routing | None = None

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_ND = x_BTD.flatten(0, -2)
        if self.training and self.input_jitter:
            x_ND = x_ND * torch.empty_like(x_ND).uniform_(1 - self.input_jitter, 1 + self.input_jitter)
        routing = self.router(x_ND)
        if self.training:
            self._last = routing
        x_ND, gate_up_EJD, down_EDI = _in_one_precision(x_ND, self.gate_up_proj, self.down_proj)
        out_ND = mix(x_ND, routing.weights_NK.to(x_ND.dtype), routing.experts_NK, gate_up_EJD, down_EDI)
        return out_ND.view(x_BTD.shape)

    def auxiliary(self, real_BT: Tensor) -> Auxiliary | None:
        routing, self._last = self._last, None
        if routing is None:
            return None
        loss, load_E = balance_of(routing, real_BT.flatten())
        metrics = {"balance_loss": loss.detach(), "busiest_expert": load_E.max(), "idlest_expert": load_E.min()}
        loads = {f"expert_{e:02}": load for e, load in enumerate(load_E)}
        return Auxiliary(self.balance / self.n_layers * loss, metrics | loads)

    def on_device(self) -> nn.Module:
        return DenseMixture(self.router, self.gate_up_proj.detach(), self.down_proj.detach())

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave the last pass behind: it holds a graph."""
        return {**super().__getstate__(), "_last": None}


def _in_one_precision(x_ND: Tensor, *matrices: Tensor) -> list[Tensor]:
    """The tensors of a product in autocast's precision where it is on, as a linear layer has them."""
    device = x_ND.device.type
    if not torch.is_autocast_enabled(device):
        return [x_ND, *matrices]
    return [tensor.to(torch.get_autocast_dtype(device)) for tensor in (x_ND, *matrices)]
