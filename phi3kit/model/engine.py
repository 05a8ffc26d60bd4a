"""What talks: something that reads ids one after another and says what may come next.

`Engine` is the contract that a net in PyTorch (`NetEngine`, here) and a bundle's program (`phi3kit.serve`) share,
so that chat, scoring and the proof of an export treat both alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.model.cache import GrowingCache
from phi3kit.model.decoder import Decoder
from phi3kit.model.sampling import greedy


class Engine(ABC):
    """One conversation's worth of state: the ids read so far."""

    @property
    @abstractmethod
    def context(self) -> int:
        """The most ids it can read."""

    @property
    @abstractmethod
    def position(self) -> int:
        """How many ids it has read."""

    @abstractmethod
    def ingest(self, ids: Sequence[int]) -> Tensor:
        """Read at least one id more; logits of what follows the last, [V] fp32."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything read."""

    def answer(
        self,
        ids: Sequence[int],
        *,
        stop_ids: Sequence[int],
        max_new_tokens: int,
        sampler: Callable[[Tensor], int] = greedy,
    ) -> Iterator[int]:
        """Read `ids`, then generate; a stop id comes last. The last id generated is not read."""
        room = min(max_new_tokens, self.context - self.position - len(ids) + 1)
        for _ in range(room):
            ids = [sampler(self.ingest(ids))]
            yield ids[0]
            if ids[0] in stop_ids:
                return

    def check_room(self, ids: Sequence[int]) -> None:
        """Raise `UserError` where there are no `ids`, or they do not fit into the context any more."""
        if not ids:
            raise UserError("there is nothing to read; give at least one id")
        if self.position + len(ids) > self.context:
            raise UserError(
                f"{len(ids)} tokens more do not fit: {self.position} of {self.context} are used; "
                "begin a new conversation"
            )


@final
class NetEngine(Engine):
    """A net in PyTorch with a growing cache.

    Where the sequence outgrows one table of the net's `Position` (LongRoPE's switch), the cached keys were
    rotated by the wrong list: the cache is rebuilt from all ids so far, which `on_rebuild(length)` hears of.

    Args:
        net: the model, in evaluation mode.
        on_rebuild: called with the length at which the cache was rebuilt.
    """

    def __init__(self, net: Decoder, on_rebuild: Callable[[int], None] | None = None) -> None:
        self.net, self.on_rebuild = net, on_rebuild
        self._ids: list[int] = []
        self._cache: GrowingCache | None = None  # None: of `_ids`, to be computed anew

    @property
    def context(self) -> int:
        """The context the net was trained for."""
        return self.net.dims.context

    @property
    def position(self) -> int:
        """How many ids are in the cache."""
        return len(self._ids)

    @torch.inference_mode()
    def ingest(self, ids: Sequence[int]) -> Tensor:
        """Read ids; logits of what follows, [V] fp32. Interrupted (Ctrl-C), it has read none of them."""
        self.check_room(ids)
        new, table_for = list(ids), self.net.position.table_for
        whole = [*self._ids, *new]
        if self._ids and table_for(len(self._ids)) != table_for(len(whole)):
            self._cache = None
            if self.on_rebuild is not None:
                self.on_rebuild(len(whole))
        # until all layers have read, some may have more keys than others: such a cache is not kept
        cache, self._cache = self._cache, None
        if cache is None:
            cache, new = GrowingCache(self.net.dims.n_layers), whole
        device = self.net.embed_tokens.weight.device
        hidden_1TD = self.net.hidden(torch.tensor([new], device=device), cache=cache)
        logits_V = self.net.logits(hidden_1TD[0, -1]).float()
        self._ids, self._cache = whole, cache
        return logits_V

    def reset(self) -> None:
        """Forget everything read."""
        self._ids, self._cache = [], None
