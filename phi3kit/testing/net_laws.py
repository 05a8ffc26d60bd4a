"""Laws of the net's parts: `Attention`, `FeedForward`, `Norm`, `Position`.

Each function takes a factory, the same that a recipe gives `Decoder`, and raises `LawBroken`.
Shapes: B rows, T tokens, D hidden, R rotary width, H heads, K head width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from phi3kit.families import Attention, FeedForward, Norm, Position, Rotation
from phi3kit.model import GrowingCache, RoPE
from phi3kit.model.position import rotate
from phi3kit.records import Dims
from phi3kit.testing import tiny
from phi3kit.testing.law import random_normal, require, require_close

TOLERANCE = 1e-4  # fp32 sums in another order, at activations of about 1
BuildAttention = Callable[[Dims, int], Attention]
BuildFeedForward = Callable[[Dims, int], FeedForward]
BuildPosition = Callable[[Dims], Position]
Module = TypeVar("Module", bound=nn.Module)


def check_attention(build: BuildAttention) -> None:
    """Every law of `Attention`."""
    _keeps_shape_and_dtype(build)
    _is_causal(build)
    _cached_steps_equal_the_full_pass(build)
    _packed_documents_are_isolated(build)
    _attention_exports(build)


def check_feed_forward(build: BuildFeedForward) -> None:
    """Every law of `FeedForward`: shape and dtype stay, each token is transformed alone."""
    dims = tiny.dims()
    x_BTD = random_normal(2, 10, dims.hidden_size)
    with torch.no_grad():
        for layer in range(dims.n_layers):
            _acts_on_each_alone("FeedForward", _seeded(functools.partial(build, dims, layer)), x_BTD, f"layer {layer}")


def check_norm(build: Callable[[int], Norm]) -> None:
    """Every law of `Norm`: each token alone, shape and dtype stay, and the scale of the input does not matter."""
    x_BTD = random_normal(2, 10, 32)
    with torch.no_grad():
        norm = _seeded(functools.partial(build, 32))
        law = "Norm does not see the scale of its input"
        require_close(norm(1000 * x_BTD), norm(x_BTD), 1e-3, law, "a thousand times as large")
        _acts_on_each_alone("Norm", norm, x_BTD, "width 32")


def _acts_on_each_alone(family: str, module: nn.Module, x_BTD: Tensor, where: str) -> None:
    whole_BTD = module(x_BTD)
    _same_form(family, whole_BTD, x_BTD)
    alone_BTD = torch.cat([module(x_BTD[:, t : t + 1]) for t in range(x_BTD.shape[1])], dim=1)
    law = f"{family} acts on each position alone"
    require_close(whole_BTD, alone_BTD, TOLERANCE, law, f"{where}, all tokens against one by one")
    x16_BTD = x_BTD.bfloat16()
    _same_form(family, module.bfloat16()(x16_BTD), x16_BTD)


def check_position(build: BuildPosition) -> None:
    """Every law of `Position`: scores depend on distance alone; one table serves one forward pass."""
    dims = tiny.dims()
    position = _seeded(functools.partial(build, dims))
    tables = {position.table_for(length): length for length in range(1, dims.context + 1)}
    for length in tables.values():  # the longest sequence each table serves
        _scores_depend_on_distance(position, length, dims)
    for context in {*tables.values(), dims.context}:
        fixed = position.fixed_for(context)
        served = {fixed.table_for(length) for length in range(1, context + 1)}
        law = "a position fixed for a context never changes its table within it"
        require(len(served) == 1, law, f"fixed_for({context}) uses tables {sorted(served)}")
        heads_1THK = torch.randn(1, context, 2, dims.head_width, generator=torch.Generator().manual_seed(0))
        got, wanted = (rotate(heads_1THK, each(_line(context))) for each in (fixed, position))
        require_close(got, wanted, 1e-6, "a fixed position turns as the one it came from", f"at {context}")


def _line(length: int) -> Tensor:
    return torch.arange(length)[None]


def _seeded(build: Callable[[], Module]) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def _same_form(family: str, out: Tensor, x: Tensor) -> None:
    law = f"{family} keeps shape and dtype"
    require(out.shape == x.shape, law, f"{list(x.shape)} became {list(out.shape)}")
    require(out.dtype == x.dtype, law, f"{x.dtype} became {out.dtype}")
    require(bool(out.isfinite().all()), f"{family} of finite numbers is finite", "it gave NaN or infinity")


def _attention(build: BuildAttention) -> tuple[Attention, Dims, Callable[[int], Rotation]]:
    dims = tiny.dims()
    module = _seeded(functools.partial(build, dims, dims.n_layers - 1))
    rope = RoPE(dims)
    return module, dims, lambda length: rope(_line(length))


@torch.no_grad()
def _keeps_shape_and_dtype(build: BuildAttention) -> None:
    module, dims, rotation = _attention(build)
    for rows, length in ((1, 1), (2, 7), (3, dims.context)):
        x_BTD = random_normal(rows, length, dims.hidden_size)
        _same_form("Attention", module(x_BTD, rotation(length)), x_BTD)
    x_BTD = x_BTD.bfloat16()
    _same_form("Attention", module.bfloat16()(x_BTD, rotation(length)), x_BTD)


@torch.no_grad()
def _is_causal(build: BuildAttention) -> None:
    module, dims, rotation = _attention(build)
    x_BTD = random_normal(2, dims.context, dims.hidden_size)
    before_BTD = module(x_BTD, rotation(dims.context))
    for t in (1, dims.context // 2, dims.context - 1):
        other_BTD = x_BTD.clone()
        other_BTD[:, t:] = 3 * random_normal(*other_BTD[:, t:].shape, seed=t)
        after_BTD = module(other_BTD, rotation(dims.context))
        law = "Attention is causal"
        require_close(after_BTD[:, :t], before_BTD[:, :t], 1e-6, law, f"tokens before {t} after changing the rest")
        change = float((after_BTD[:, t:] - before_BTD[:, t:]).abs().max())
        require(change > TOLERANCE, "Attention passes its tokens on", f"changing all from {t} gave {change:.3g}")


@torch.no_grad()
def _cached_steps_equal_the_full_pass(build: BuildAttention) -> None:
    dims = tiny.dims()
    net = tiny.net(dims, attention=build)
    tokens_BT = tiny.batch(dims, length=dims.context).tokens_BT
    whole_BTD = net.hidden(tokens_BT)
    for prompt in (1, dims.context // 2):
        cache, parts = GrowingCache(dims.n_layers), []
        for chunk_BT in tokens_BT.split([prompt, 5, *[1] * (dims.context - prompt - 5)], dim=1):
            parts.append(net.hidden(chunk_BT, cache=cache))
        law = "cached steps equal the full pass"
        require(cache.length == dims.context, law, f"{dims.context} tokens left {cache.length} in the cache")
        where = f"a prompt of {prompt}, a chunk of 5, then single tokens"
        require_close(torch.cat(parts, dim=1), whole_BTD, TOLERANCE, law, where)


@torch.no_grad()
def _packed_documents_are_isolated(build: BuildAttention) -> None:
    module, dims, rotation = _attention(build)
    lengths = [13, 1, 30, dims.context - 44]
    x_BTD = random_normal(2, dims.context, dims.hidden_size)
    documents_T = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    positions_T = torch.cat([torch.arange(length) for length in lengths])
    packed_BTD = module(x_BTD, RoPE(dims)(positions_T[None]), documents_T.expand(2, -1))
    parts = x_BTD.split(lengths, dim=1)
    alone_BTD = torch.cat([module(x, rotation(length)) for x, length in zip(parts, lengths, strict=True)], dim=1)
    law = "packed documents do not see each other"
    require_close(packed_BTD, alone_BTD, TOLERANCE, law, f"documents of {lengths} tokens, packed against alone")


@torch.no_grad()
def _attention_exports(build: BuildAttention) -> None:
    net = tiny.net(attention=build)
    tokens_BT = tiny.batch(length=12).tokens_BT[:1]
    law = "Attention exports with torch.export, for any number of tokens"
    try:
        program = tiny.program(net, tokens_BT)
    except Exception as error:  # torch.export raises many kinds; all mean the same here
        require(False, law, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
    for length in (12, 5):
        exported, wanted = program.module()(tokens_BT[:, :length]), net(tokens_BT[:, :length])
        require_close(exported, wanted, TOLERANCE, law, f"{length} tokens, program against net")


@torch.no_grad()
def _scores_depend_on_distance(position: Position, length: int, dims: Dims) -> None:
    rotation = position(_line(length))
    law = "a rotation is [B, T, R] with an even R of at most the head's width"
    shape = rotation.cos_BTR.shape
    fits = shape[:2] == (1, length) and shape[2] % 2 == 0 and shape[2] <= dims.head_width
    require(fits and rotation.sin_BTR.shape == shape, law, f"{length} tokens gave {list(shape)}")
    q_BTHK, k_BTHK = (
        rotate(random_normal(dims.head_width, seed=seed).expand(1, length, 1, -1), rotation) for seed in (1, 2)
    )
    scores_TT = (q_BTHK[0, :, 0] @ k_BTHK[0, :, 0].T).double()
    law = "scores of rotated queries and keys depend only on their distance"
    for distance in range(length):
        same_T = scores_TT.diagonal(-distance)
        spread = float(same_T.max() - same_T.min())
        where = f"at distance {distance} of {length} tokens scores spread over {spread:.3g}"
        require(spread <= TOLERANCE, law, where)
