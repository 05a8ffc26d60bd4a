"""The plain router: a softmax over all experts, of which the largest are taken."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from phi3kit import UserError
from phi3kit.families import Router, Routing
from phi3kit.records import Dims
from phi3kit_moe.gate import scores


@final
class TopK(Router):
    """The K most likely experts of one softmax (arXiv 1701.06538; Mixtral, arXiv 2401.04088, section 2.1).

    Args:
        dims: the net's sizes.
        n_experts: how many there are to choose from.
        chosen: experts per token.
        renormalise: the weights of the chosen ones sum to one, as Mixtral has it.
    """

    def __init__(self, dims: Dims, n_experts: int, chosen: int = 2, renormalise: bool = True) -> None:
        super().__init__()
        if not 1 <= chosen <= n_experts:
            raise UserError(f"TopK: {chosen} chosen of {n_experts} experts; give 1 to {n_experts}")
        self.chosen, self.renormalise = chosen, renormalise
        self.gate = nn.Linear(dims.hidden_size, n_experts, bias=False)

    def forward(self, x_ND: Tensor) -> Routing:
        probabilities_NE = scores(x_ND, self.gate).softmax(-1)
        weights_NK, experts_NK = probabilities_NE.topk(self.chosen, dim=-1)
        if self.renormalise:
            weights_NK = weights_NK / weights_NK.sum(-1, keepdim=True)
        return Routing(weights_NK, experts_NK, probabilities_NE)
