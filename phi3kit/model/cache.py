"""Keys and values of the past, for generation in PyTorch."""

from __future__ import annotations

from typing import final

from torch import Tensor

from phi3kit.families import Cache
from phi3kit.model.attend import attend


@final
class GrowingCache(Cache):
    """Grows with the sequence: its room doubles when it is full, so that a step copies only what is new.

    Args:
        n_layers: how many layers will store into it.
    """

    def __init__(self, n_layers: int) -> None:
        self._keys: list[Tensor | None] = [None] * n_layers
        self._values: list[Tensor | None] = [None] * n_layers
        self._lengths = [0] * n_layers

    @property
    def length(self) -> int:
        return self._lengths[-1]

    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        old, new = self._lengths[layer], self._lengths[layer] + k_BTGK.shape[1]
        self._lengths[layer] = new
        keys, values = self._keys[layer], self._values[layer]
        if keys is None or values is None:
            self._keys[layer], self._values[layer] = k_BTGK, v_BTGK
            return k_BTGK, v_BTGK
        if new > keys.shape[1]:
            keys, values = _roomier(keys, old, 2 * new), _roomier(values, old, 2 * new)
            self._keys[layer], self._values[layer] = keys, values
        keys[:, old:new], values[:, old:new] = k_BTGK, v_BTGK
        return keys[:, :new], values[:, :new]

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        k_BSGK, v_BSGK = self.append(layer, k_BTGK, v_BTGK)
        return attend(q_BTHK, k_BSGK, v_BSGK, scale=scale, window=window)

    def truncate(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        self._lengths = [min(length, old) for old in self._lengths]


def _roomier(old_BSGK: Tensor, used: int, room: int) -> Tensor:
    new_BSGK = old_BSGK.new_empty(old_BSGK.shape[0], room, *old_BSGK.shape[2:])
    new_BSGK[:, :used] = old_BSGK[:, :used]
    return new_BSGK
