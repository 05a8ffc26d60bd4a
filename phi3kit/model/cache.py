"""Keys and values of the past, for generation in PyTorch."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from phi3kit.families import Cache
from phi3kit.model.attend import attend


@final
class GrowingCache(Cache):
    """Grows with the sequence. The cache that `generate` and the tests use.

    Args:
        n_layers: how many layers will store into it.
    """

    def __init__(self, n_layers: int) -> None:
        self._keys: list[Tensor | None] = [None] * n_layers
        self._values: list[Tensor | None] = [None] * n_layers

    @property
    def length(self) -> int:
        last = self._keys[-1]
        return 0 if last is None else last.shape[1]

    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        k_BSGK, v_BSGK = self._keys[layer], self._values[layer]
        k_BSGK = k_BTGK if k_BSGK is None else torch.cat((k_BSGK, k_BTGK), dim=1)
        v_BSGK = v_BTGK if v_BSGK is None else torch.cat((v_BSGK, v_BTGK), dim=1)
        self._keys[layer], self._values[layer] = k_BSGK, v_BSGK
        return k_BSGK, v_BSGK

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        k_BSGK, v_BSGK = self.append(layer, k_BTGK, v_BTGK)
        return attend(q_BTHK, k_BSGK, v_BSGK, scale=scale, window=window)

    def truncate(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        self._keys = [None if k is None or length == 0 else k[:, :length] for k in self._keys]
        self._values = [None if v is None or length == 0 else v[:, :length] for v in self._values]
