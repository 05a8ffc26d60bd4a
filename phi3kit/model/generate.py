"""Continue a prompt with a net in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from phi3kit.model.decoder import Decoder
from phi3kit.model.engine import NetEngine
from phi3kit.model.sampling import greedy


def generate(
    net: Decoder,
    prompt: Iterable[int],
    *,
    max_new_tokens: int,
    stop_ids: Iterable[int] = (),
    sampler: Callable[[Tensor], int] = greedy,
    on_rebuild: Callable[[int], None] | None = None,
) -> Iterator[int]:
    """The ids one by one, a stop id last; ends early where the net's context is full.

    Args:
        net: the model, in evaluation mode.
        prompt: at least one id.
        max_new_tokens: at most so many.
        stop_ids: generation ends after one of them.
        sampler: picks an id from logits, [V].
        on_rebuild: hears of a rebuilt cache, see `NetEngine`.
    """
    engine = NetEngine(net, on_rebuild)
    return engine.answer(list(prompt), stop_ids=list(stop_ids), max_new_tokens=max_new_tokens, sampler=sampler)
