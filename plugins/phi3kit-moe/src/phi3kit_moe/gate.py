"""The scores every router begins with."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def scores(x_ND: Tensor, gate: nn.Linear) -> Tensor:
    """Logits of all experts, [N, E], in the gate's own precision.

    Under autocast the gate stays in the precision of its weights: routing is decided by small differences (Switch
    Transformer, arXiv 2101.03961, section 2.4, "selective precision").
    """
    device = x_ND.device.type
    # an export writes its whole graph anew for each such region, so there is none where none is needed
    with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
        return F.linear(x_ND.to(gate.weight.dtype), gate.weight)
