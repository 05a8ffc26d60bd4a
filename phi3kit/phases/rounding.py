"""Small steps on weights in bfloat16, which has 8 bits of precision: a step below half of the last one would be lost,
and fine-tuning is made of those.

Special here: the optimizer computes each parameter's step in fp32, as it is; what it puts out, weights and averages, is
rounded up or down at random, so that the mean is exact (stochastic rounding, arXiv 2010.06192, section 4). One
parameter at a time is wide, so that weights and averages still take 2 bytes a number. The draws are a pure function of
seed and step, the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from phi3kit.model.weights import local

LOST_BITS = 16  # of fp32 in bfloat16


def stochastically_rounded(wide: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 numbers in bfloat16: each one of its two neighbours, the nearer one the likelier."""
    noise = torch.randint(0, 1 << LOST_BITS, wide.shape, dtype=torch.int32, device=wide.device, generator=generator)
    bits = (wide.view(torch.int32) + noise) & -(1 << LOST_BITS)
    return bits.view(torch.float32).to(torch.bfloat16)


def keep_small_steps(optimizer: Optimizer, seed: Callable[[], int]) -> None:
    """Round an optimizer's steps on bfloat16 weights stochastically. One that does so itself (torchao's, where it is
    asked to) is left alone.

    Args:
        optimizer: whose `step` to change; one whose step on a parameter depends on that parameter alone.
        seed: of the draws of the next step.
    """
    narrow = [p for group in optimizer.param_groups for p in group["params"] if p.dtype == torch.bfloat16]
    if not narrow or getattr(optimizer, "bf16_stochastic_round", False):
        return
    take = optimizer.step

    @torch.no_grad()
    def step(self: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        generator = torch.Generator(local(narrow[0]).device).manual_seed(seed())
        groups = list(self.param_groups)
        try:
            for group in groups:
                _step_group(self, take, group, generator)
        finally:
            self.param_groups[:] = groups
        return loss

    optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]
    _keep_numbers(optimizer)


def _step_group(
    optimizer: Optimizer, take: Callable[[], Any], group: dict[str, Any], generator: torch.Generator
) -> None:
    """A step of one group: what is wide already at once, then one bfloat16 parameter after the other."""
    options = {name: value for name, value in group.items() if name != "params"}
    wide = [p for p in group["params"] if p.dtype != torch.bfloat16]
    changed = options
    if wide:
        changed = _taken(optimizer, take, wide, options)
    for parameter in group["params"]:
        if parameter.dtype != torch.bfloat16 or parameter.grad is None:
            continue
        copied = parameter.detach().float()
        copied.grad = parameter.grad.float()
        state = optimizer.state.pop(parameter, {})
        optimizer.state[copied] = {name: _widened(value) for name, value in state.items()}
        changed = _taken(optimizer, take, [copied], options)
        local(parameter).copy_(stochastically_rounded(local(copied), generator))
        state = optimizer.state.pop(copied)
        optimizer.state[parameter] = {name: _narrowed(value, generator) for name, value in state.items()}
    group.update(changed)  # what the optimizer counts in its groups


def _taken(
    optimizer: Optimizer, take: Callable[[], Any], parameters: list[Tensor], options: dict[str, Any]
) -> dict[str, Any]:
    """Let the optimizer step on some parameters; returns the options as it leaves them."""
    one = {"params": parameters, **options}
    optimizer.param_groups[:] = [one]
    take()
    return {name: value for name, value in one.items() if name != "params"}


def _widened(value: Any) -> Any:
    return value.float() if _is_narrowed(value, torch.bfloat16) else value


def _narrowed(value: Any, generator: torch.Generator) -> Any:
    if not _is_narrowed(value, torch.float32):
        return value
    narrow = value.to(torch.bfloat16)
    local(narrow).copy_(stochastically_rounded(local(value), generator))
    return narrow


def _is_narrowed(value: Any, dtype: torch.dtype) -> bool:
    """Whether a part of an optimizer's state is kept in bfloat16: plain tensors of many numbers."""
    return type(value) in (Tensor, DTensor) and value.ndim > 0 and value.dtype == dtype


def _keep_numbers(optimizer: Optimizer) -> None:
    """torch loads an optimizer's state in its parameters' type; single numbers stay in theirs."""
    given: dict[str, Any] = {}

    def remember(_: Optimizer, state: dict[str, Any]) -> None:
        given.update(state)

    def restore(self: Optimizer) -> None:
        own = [p for group in self.param_groups for p in group["params"]]
        ids = [id for group in given["param_groups"] for id in group["params"]]
        for parameter, id in zip(own, ids, strict=True):
            for name, value in given["state"].get(id, {}).items():
                if isinstance(value, Tensor) and value.ndim == 0:
                    loaded = self.state[parameter][name]
                    self.state[parameter][name] = value.to(device=loaded.device, copy=True)
        given.clear()

    optimizer.register_load_state_dict_pre_hook(remember)
    optimizer.register_load_state_dict_post_hook(restore)
