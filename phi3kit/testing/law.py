"""How a law speaks when it is broken: which law, and the numbers."""

from __future__ import annotations

import torch
from torch import Tensor


class LawBroken(AssertionError):
    """A component breaks a law of its family."""


def require(condition: bool, law: str, found: str) -> None:
    """Raise `LawBroken` unless the condition holds."""
    if not condition:
        raise LawBroken(f"law broken: {law}; {found}")


def require_close(got: Tensor, wanted: Tensor, tolerance: float, law: str, where: str) -> None:
    """The largest absolute difference stays within the tolerance; NaN and other shapes are differences."""
    require(got.shape == wanted.shape, law, f"{where}: shape {list(got.shape)}, not {list(wanted.shape)}")
    difference = float((got.double() - wanted.double()).abs().max()) if got.numel() else 0.0
    require(difference <= tolerance, law, f"{where}: largest difference {difference:.3g}, allowed {tolerance:.3g}")


def random_normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same ones for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
