"""Generation in PyTorch, one sequence at a time, with a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.model.cache import GrowingCache
from phi3kit.model.decoder import Decoder


def greedy(logits_V: Tensor) -> int:
    """The most likely id."""
    return int(logits_V.argmax())


@torch.inference_mode()
def generate(
    net: Decoder,
    prompt: Iterable[int],
    *,
    max_new_tokens: int,
    stop_ids: Iterable[int] = (),
    sampler: Callable[[Tensor], int] = greedy,
    on_rebuild: Callable[[int], None] | None = None,
) -> Iterator[int]:
    """Continue a prompt; the ids come one by one, a stop id last.

    Where the sequence outgrows one table of the net's `Position` (LongRoPE's switch), the cached keys were
    rotated by the wrong list: the cache is rebuilt from all tokens so far, which `on_rebuild(length)` hears of.

    Args:
        net: the model.
        prompt: at least one id.
        max_new_tokens: at most so many.
        stop_ids: generation ends after one of them.
        sampler: picks an id from logits, [V].
        on_rebuild: called with the length at which the cache was rebuilt.
    """
    ids = list(prompt)
    if not ids:
        raise UserError("the prompt is empty; give at least one token")
    stops = set(stop_ids)
    device = net.embed_tokens.weight.device
    cache, pending = GrowingCache(net.dims.n_layers), ids
    for _ in range(max_new_tokens):
        table = net.position.table_for(len(ids))
        if cache.length and table != net.position.table_for(cache.length):
            cache, pending = GrowingCache(net.dims.n_layers), ids
            if on_rebuild is not None:
                on_rebuild(len(ids))
        hidden_BTD = net.hidden(torch.tensor([pending], device=device), cache=cache)
        chosen = sampler(net.lm_head(hidden_BTD[0, -1]).float())
        ids = [*ids, chosen]
        pending = [chosen]
        yield chosen
        if chosen in stops:
            return
