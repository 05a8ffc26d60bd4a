"""The cache a bundle carries: fixed buffers, written and attended over by ExecuTorch's own operators.

Works eagerly and under ``torch.export``. Shapes: T new tokens, N the context, G key/value heads, H query heads,
K head width; always one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from phi3kit import executorch_ops
from phi3kit.families import Cache

if TYPE_CHECKING:
    from phi3kit.records import Dims


@final
class DeviceCache(nn.Module, Cache):
    """Keys and values of up to `context` tokens, one buffer pair per layer, [1, N, G, K] fp32.

    Args:
        dims: the net's sizes.
        context: how many tokens it holds.
    """

    def __init__(self, dims: Dims, context: int) -> None:
        super().__init__()
        executorch_ops.register()
        self.context = context
        self.start: int = 0  # position of the pass's first token; a symbol while exporting
        for layer in range(dims.n_layers):
            for kind in ("keys", "values"):
                buffer = torch.zeros(1, context, dims.kv_heads, dims.head_width)
                self.register_buffer(f"{kind}_{layer}", buffer, persistent=False)

    @property
    def length(self) -> int:
        """Tokens stored before this pass."""
        return self.start

    def begin(self, start: int) -> None:
        """The next forward pass stores its tokens from position `start` on."""
        self.start = start

    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        """Store; return everything up to and including the new tokens."""
        k_BNGK, v_BNGK = self._write(layer, k_BTGK, v_BTGK)
        end = self.start + k_BTGK.shape[1]
        return k_BNGK.narrow(1, 0, end), v_BNGK.narrow(1, 0, end)

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """Store the new tokens and attend with ``llama::custom_sdpa``, which shares key/value heads itself."""
        k_BNGK, v_BNGK = self._write(layer, k_BTGK, v_BTGK)
        mask = None if window is None else self._mask(q_BTHK, window)
        return torch.ops.llama.custom_sdpa(q_BTHK, k_BNGK, v_BNGK, self.start, mask, 0.0, window is None, scale)

    def _write(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.get_buffer(f"keys_{layer}"), self.get_buffer(f"values_{layer}")
        torch.ops.llama.update_cache(k_BTGK.contiguous(), keys, self.start)
        torch.ops.llama.update_cache(v_BTGK.contiguous(), values, self.start)
        return keys, values

    def _mask(self, q_BTHK: Tensor, window: int) -> Tensor:
        """What the operator adds to the scores: 0 within the window, -inf elsewhere, [T, N]."""
        q_T1 = (self.start + torch.arange(q_BTHK.shape[1]))[:, None]
        k_1N = torch.arange(self.context)[None, :]
        seen_TN = (k_1N <= q_T1) & (k_1N > q_T1 - window)
        return torch.where(seen_TN, 0.0, float("-inf"))
