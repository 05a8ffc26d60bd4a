"""Where a device keeps the keys and values of one layer: in fp32, or in 8 bits.

Written with ``llama::update_cache`` and read with ``llama::custom_sdpa`` or ``custom_quantized_sdpa`` (ExecuTorch 1.4,
extension/llm/custom_ops), which share key/value heads among query heads themselves. Everything stays [1, N, G, K]:
transposing a cache for each token would cost more than attending over it.

Shapes: T new tokens, R rows of queries, N the context, G key/value heads, H query heads, K head width; always one row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from torch import Tensor, nn

CacheType = Literal["float", "int8"]
LOWEST, HIGHEST = -128, 127


class Store(nn.Module, ABC):
    """Keys and values of up to N tokens."""

    @abstractmethod
    def write(self, k_1TGK: Tensor, v_1TGK: Tensor, start: int, places_1T: Tensor | None) -> None:
        """Keep the new tokens', from place `start` on, or at places of their own."""

    @abstractmethod
    def held(self) -> tuple[Tensor, ...]:
        """What `attend` reads."""

    @staticmethod
    @abstractmethod
    def attend(q_1RHK: Tensor, start: int, mask_RN: Tensor | None, scale: float, *held: Tensor) -> Tensor:
        """Attention over what is held, [1, R, H, K]; without a mask row r sees everything up to ``start + r``."""


@final
class FloatStore(Store):
    """In fp32: 8 K bytes for each token and head.

    Args:
        context: tokens it holds.
        heads: key/value heads.
        width: of one head.
    """

    def __init__(self, context: int, heads: int, width: int) -> None:
        super().__init__()
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(1, context, heads, width), persistent=False)

    def write(self, k_1TGK: Tensor, v_1TGK: Tensor, start: int, places_1T: Tensor | None) -> None:
        keys_1NGK, values_1NGK = self.held()
        _put(k_1TGK.contiguous(), keys_1NGK, start, places_1T)
        _put(v_1TGK.contiguous(), values_1NGK, start, places_1T)

    def held(self) -> tuple[Tensor, ...]:
        return self.get_buffer("keys"), self.get_buffer("values")

    @staticmethod
    def attend(q_1RHK: Tensor, start: int, mask_RN: Tensor | None, scale: float, *held: Tensor) -> Tensor:
        return torch.ops.llama.custom_sdpa(q_1RHK, *held, start, mask_RN, 0.0, mask_RN is None, scale)


@final
class Int8Store(Store):
    """In 8 bits, each token's head with a scale and a zero of its own: 2 (K + 5) bytes for each token and head.

    Queries are rounded to 8 bits too, as they come.
    """

    def __init__(self, context: int, heads: int, width: int) -> None:
        super().__init__()
        self.names = [f"{of}_{what}" for of in ("keys", "values") for what in ("int8", "zeros", "scales")]
        for name in self.names:
            shape = (1, context, heads, width if name.endswith("int8") else 1)
            kind = torch.float32 if name.endswith("scales") else torch.int8
            self.register_buffer(name, torch.zeros(shape, dtype=kind), persistent=False)

    def write(self, k_1TGK: Tensor, v_1TGK: Tensor, start: int, places_1T: Tensor | None) -> None:
        for new, kept in zip((*rounded(k_1TGK), *rounded(v_1TGK)), self.held(), strict=True):
            _put(new, kept, start, places_1T)

    def held(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(name) for name in self.names)

    @staticmethod
    def attend(q_1RHK: Tensor, start: int, mask_RN: Tensor | None, scale: float, *held: Tensor) -> Tensor:
        keys, k_zeros, k_scales, values, v_zeros, v_scales = held
        queries, q_zeros, q_scales = rounded(q_1RHK)
        quantization = (q_zeros, q_scales, k_zeros, k_scales, v_zeros, v_scales)
        return torch.ops.llama.custom_quantized_sdpa(
            queries, keys, values, start, mask_RN, 0.0, mask_RN is None, scale, *quantization
        )


def _put(new_1TGX: Tensor, kept_1NGX: Tensor, start: int, places_1T: Tensor | None) -> None:
    if places_1T is None:
        torch.ops.llama.update_cache(new_1TGX, kept_1NGX, start)
    else:
        torch.ops.llama.update_cache_with_indices(new_1TGX, kept_1NGX, start, places_1T)


def rounded(x_1TGK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers in 8 bits, and each token's and head's zero (int8) and scale (fp32), [1, T, G, 1]."""
    decomposed = torch.ops.quantized_decomposed
    x_1TGK = x_1TGK.contiguous()
    scales, zeros = decomposed.choose_qparams_per_token_asymmetric.default(x_1TGK, torch.int8)
    int8 = decomposed.quantize_per_token.default(x_1TGK, scales, zeros, LOWEST, HIGHEST, torch.int8)
    return int8, zeros.to(torch.int8), scales.to(torch.float32)


def store(kind: CacheType, context: int, heads: int, width: int) -> Store:
    """A new, empty one."""
    return {"float": FloatStore, "int8": Int8Store}[kind](context, heads, width)
