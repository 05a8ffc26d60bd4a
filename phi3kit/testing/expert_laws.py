"""Laws of `Router`. Shapes: N tokens, D hidden, K experts chosen per token, E experts."""

from __future__ import annotations

from collections.abc import Callable

import torch

from phi3kit.families import Router
from phi3kit.records import Dims
from phi3kit.testing import tiny
from phi3kit.testing.law import random_normal, require, require_close

EXPERTS, TOKENS = 8, 200


def check_router(build: Callable[[Dims, int], Router]) -> None:
    """Every law of `Router`, with 8 experts.

    Args:
        build: makes a router, as ``build(dims, n_experts)``.
    """
    dims = tiny.dims()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        router = build(dims, EXPERTS)
        _is_a_routing(router.train(), dims)
        _gradient_reaches_all(router, dims)
        _is_a_routing(router.eval(), dims)
        _each_token_alone(router, dims)


@torch.no_grad()
def _is_a_routing(router: Router, dims: Dims) -> None:
    weights_NK, experts_NK, probabilities_NE = router(random_normal(TOKENS, dims.hidden_size))
    law = "a router gives K weights and K experts per token, and a probability for every expert"
    shapes = [list(t.shape) for t in (weights_NK, experts_NK, probabilities_NE)]
    chosen = experts_NK.shape[1]
    fits = shapes == [[TOKENS, chosen], [TOKENS, chosen], [TOKENS, EXPERTS]] and 1 <= chosen <= EXPERTS
    require(fits, law, f"{TOKENS} tokens and {EXPERTS} experts gave {shapes}")
    in_range = bool(((experts_NK >= 0) & (experts_NK < EXPERTS)).all())
    distinct = all(len(set(row)) == chosen for row in experts_NK.tolist())
    require(in_range and distinct, "a router chooses K different experts", f"{experts_NK[:3].tolist()} and so on")
    finite = bool(weights_NK.isfinite().all()) and bool((weights_NK >= 0).all())
    require(finite, "weights of experts are finite and not negative", f"{weights_NK[:3].tolist()} and so on")
    ones_N = probabilities_NE.sum(-1)
    require_close(ones_N, torch.ones_like(ones_N), 1e-4, "probabilities over all experts sum to one", "softmax")


@torch.no_grad()
def _each_token_alone(router: Router, dims: Dims) -> None:
    x_ND = random_normal(TOKENS, dims.hidden_size)
    whole, again = router(x_ND), router(x_ND)
    require(torch.equal(whole.experts_NK, again.experts_NK), "routing is the same every time in evaluation", "twice")
    alone = [router(x_ND[n : n + 1]) for n in range(20)]
    law = "a token is routed alone"
    require_close(whole.weights_NK[:20], torch.cat([r.weights_NK for r in alone]), 1e-5, law, "weights")
    require(torch.equal(whole.experts_NK[:20], torch.cat([r.experts_NK for r in alone])), law, "other experts")


def _gradient_reaches_all(router: Router, dims: Dims) -> None:
    router.zero_grad()
    (router(random_normal(TOKENS, dims.hidden_size)).weights_NK ** 2).sum().backward()
    without = [name for name, p in router.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    require(not without, "gradient reaches every parameter of a router", f"none at {without}")
