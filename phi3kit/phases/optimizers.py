"""Any torch optimizer over a net's parameters, and one clear line for those that cannot train one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from phi3kit.errors import UserError

CANNOT = {
    "LBFGS": "it evaluates the loss several times a step, each on the same batch",
    "SparseAdam": "it takes sparse gradients, and a net's are dense",
}
INSTEAD = "use torch.optim.AdamW, for example"


def make_optimizer(factory: Callable[[Iterable[Any]], Optimizer], parameters: list[nn.Parameter]) -> Optimizer:
    """The optimizer, with weight decay on matrices only.

    Args:
        factory: makes it from parameters or groups of them.
        parameters: what learns.

    Raises:
        UserError: it cannot train a net, or not this one.
    """
    probe = _made(factory, [nn.Parameter(torch.zeros(2, 2))], "the optimizer")
    name = type(probe).__name__
    if name in CANNOT:
        raise UserError(f"{name} cannot train a net here: {CANNOT[name]}; {INSTEAD}")
    vectors: dict[str, Any] = {"params": [p for p in parameters if p.ndim < 2]}
    if "weight_decay" in probe.defaults:
        vectors["weight_decay"] = 0.0
    return _made(factory, [{"params": [p for p in parameters if p.ndim >= 2]}, vectors], name)


def _made(factory: Callable[[Iterable[Any]], Optimizer], parameters: list[Any], name: str) -> Optimizer:
    try:
        return factory(parameters)
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{name} refuses this net or its own options ({told}); change them, or {INSTEAD}") from error


def switch(optimizers: Iterable[Optimizer], mode: str) -> None:
    """Tell optimizers that keep other weights for measuring than for learning what comes next: schedule-free ones do
    (arXiv 2405.15682).

    Args:
        optimizers: of a run.
        mode: "train" or "eval".
    """
    for optimizer in optimizers:
        if callable(change := getattr(optimizer, mode, None)):
            change()
