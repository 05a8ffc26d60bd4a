"""Small steps on weights in bfloat16, which has 8 bits of precision: a step below half of the last one would be lost,
and fine-tuning is made of those.

Special here: the optimizer computes each parameter's step in fp32, as it is; what it puts out is rounded up or down at
random, so that the mean is exact (stochastic rounding, arXiv 2010.06192, section 4): its averages to bfloat16, weights
to 24 bits, the upper 16 of which are the net's and the lower 8 stay beside. One parameter at a time is wide, so that a
weight takes 3 bytes and an average 2. The draws are a pure function of seed and step, the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from phi3kit.model.weights import local

LOST_BITS = 16  # of fp32 in bfloat16
KEPT_BITS = 8  # of those, beside each weight
LOWER = "lower_bits"  # what an optimizer's state calls them


def stochastically_rounded(wide: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 numbers in bfloat16: each one of its two neighbours, the nearer one the likelier."""
    noise = torch.randint(0, 1 << LOST_BITS, wide.shape, dtype=torch.int32, device=wide.device, generator=generator)
    bits = (wide.view(torch.int32) + noise) & -(1 << LOST_BITS)
    return bits.view(torch.float32).to(torch.bfloat16)


def split(wide: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """fp32 numbers as the nearest bfloat16 ones and, in int8, how far they are off, in 256ths of the last place."""
    noise = torch.randint(0, 1 << KEPT_BITS, wide.shape, dtype=torch.int32, device=wide.device, generator=generator)
    bits = (wide.view(torch.int32) + noise) >> KEPT_BITS
    upper = (bits + (1 << KEPT_BITS - 1)) >> KEPT_BITS
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << KEPT_BITS)).to(torch.int8)


def joined(narrow: Tensor, lower: Tensor) -> Tensor:
    """fp32 numbers out of what `split` made of them."""
    upper = narrow.contiguous().view(torch.int16).to(torch.int32) << LOST_BITS
    return (upper + (lower.to(torch.int32) << KEPT_BITS)).view(torch.float32)


def whole_precision(optimizer: Optimizer, parameter: nn.Parameter) -> Tensor | None:
    """A weight with what is kept beside it, in fp32, if there is such; the optimizer forgets what it had for it."""
    lower = optimizer.state.pop(parameter, {}).get(LOWER)
    if lower is None:
        return None
    if isinstance(parameter, DTensor):
        numbers = joined(local(parameter.detach()), local(lower).to(local(parameter).device))
        return _like(parameter, numbers)
    return joined(parameter.detach(), lower.to(parameter.device))


def _like(parameter: DTensor, numbers: Tensor) -> DTensor:
    return DTensor.from_local(
        numbers, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )


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
        state = optimizer.state.pop(parameter, {})
        lower = state.pop(LOWER, None)
        copied = parameter.detach().float()
        if lower is not None:
            local(copied).copy_(joined(local(parameter), local(lower)))
        copied.grad = parameter.grad.float()
        optimizer.state[copied] = {name: _widened(value) for name, value in state.items()}
        changed = _taken(optimizer, take, [copied], options)
        upper, lower = split(local(copied), generator)
        local(parameter).copy_(upper)
        kept = _like(parameter, lower) if isinstance(parameter, DTensor) else lower
        state = optimizer.state.pop(copied)
        optimizer.state[parameter] = {name: _narrowed(value, generator) for name, value in state.items()} | {
            LOWER: kept
        }
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
    """torch loads an optimizer's state in its parameters' type; single numbers and whole ones stay in theirs."""
    given: dict[str, Any] = {}

    def remember(_: Optimizer, state: dict[str, Any]) -> None:
        given.update(state)

    def restore(self: Optimizer) -> None:
        own = [p for group in self.param_groups for p in group["params"]]
        ids = [id for group in given["param_groups"] for id in group["params"]]
        for parameter, id in zip(own, ids, strict=True):
            for name, value in given["state"].get(id, {}).items():
                if isinstance(value, Tensor) and (value.ndim == 0 or not value.is_floating_point()):
                    loaded = self.state[parameter][name]
                    self.state[parameter][name] = loaded.to(value.dtype) if value.ndim else value.to(loaded.device)
        given.clear()

    optimizer.register_load_state_dict_pre_hook(remember)
    optimizer.register_load_state_dict_post_hook(restore)
