"""The scores every router begins with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def scores(x_ND: Tensor, gate: nn.Linear) -> Tensor:
    """Logits of all experts, [N, E], in the gate's own precision.

    Under autocast the gate stays in the precision of its weights: routing is decided by small differences (Switch
    Transformer, arXiv 2101.03961, section 2.4, "selective precision").
    """
    with torch.autocast(x_ND.device.type, enabled=False):
        return F.linear(x_ND.to(gate.weight.dtype), gate.weight)
