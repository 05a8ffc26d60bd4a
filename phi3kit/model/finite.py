"""Whether weights are numbers: one NaN in a net makes every answer NaN, and nothing later says where it came from."""

from __future__ import annotations

import torch
from torch import Tensor

from phi3kit.errors import UserError


def is_finite(tensor: Tensor) -> bool:
    """Whether no number of a tensor is NaN or infinite; read once, without a copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    least, most = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(least) & torch.isfinite(most))


def check_finite(tensor: Tensor, name: str, whose: object) -> None:
    """Refuse weights that are not numbers.

    Args:
        tensor: some of the weights.
        name: what they are called.
        whose: the run or folder they are of.

    Raises:
        UserError: there is a NaN or an infinity among them.
    """
    if not is_finite(tensor):
        kind = "nan" if bool(torch.isnan(tensor).any()) else "inf"
        raise UserError(
            f"the weights of {whose} are not numbers: {name} holds {kind}; train it again from where its loss was "
            "finite, or download it again"
        )
