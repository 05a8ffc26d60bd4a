"""Where a device keeps the keys and values of one layer: in fp32, or in 8 bits.

Written with ``llama::update_cache`` and read with ``llama::custom_sdpa`` or ``custom_quantized_sdpa`` (ExecuTorch 1.4,
extension/llm/custom_ops). Key/value heads are the operators' batch, [G, N, 1, K], so that all tokens of a head lie side
by side: where all heads of a token do, attention over 4096 tokens takes twice as long.

Shapes: T new tokens, R rows of queries, N the context, G key/value heads, H query heads, J query heads of a key/value
head, K head width; always one row. C is an operator's batch: G, or 1 for `BatchOfOneStore`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

CacheType = Literal["float", "int8"]
LOWEST, HIGHEST = -128, 127


class Store(nn.Module, ABC):
    """Keys and values of up to N tokens.

    Args:
        context: N.
        heads: key/value heads.
        width: of one head.
    """

    kind: ClassVar[CacheType] = "float"
    apart: ClassVar[bool] = True  # whether key/value heads are the batch

    @abstractmethod
    def __init__(self, context: int, heads: int, width: int) -> None:
        super().__init__()

    @abstractmethod
    def write(self, k_1TGK: Tensor, v_1TGK: Tensor, start: int, places_T: Tensor | None) -> None:
        """Keep the new tokens', from place `start` on, or at places of their own."""

    @abstractmethod
    def held(self) -> tuple[Tensor, ...]:
        """What `attend` reads."""

    @classmethod
    def arranged(cls, x_1THK: Tensor, groups: int) -> Tensor:
        """Heads as an operator takes them, [C, T, H / C, K]."""
        if not cls.apart:
            return x_1THK.contiguous()
        # a view that infers T: XNNPACK takes no other where T varies
        return x_1THK.view(-1, groups, x_1THK.shape[2] // groups, x_1THK.shape[3]).permute(1, 0, 2, 3).contiguous()

    @classmethod
    def side_by_side(cls, x_CTJK: Tensor) -> Tensor:
        """All heads of a token, [1, T, H, K]."""
        if not cls.apart:
            return x_CTJK
        groups, _, share, width = x_CTJK.shape
        return x_CTJK.permute(1, 0, 2, 3).contiguous().view(1, -1, groups * share, width)

    @staticmethod
    @abstractmethod
    def attend(q_CRJK: Tensor, first_1: Tensor, mask_RN: Tensor | None, scale: float, *held: Tensor) -> Tensor:
        """Attention over what is held, as `q_CRJK`; without a mask row r sees everything up to ``first + r``.

        Args:
            q_CRJK: queries.
            first_1: position of the first.
            mask_RN: what is added to the scores.
            scale: factor on q.k before the softmax.
            held: what is.
        """


class _Fp32Store(Store, ABC):
    """In two buffers of a shape."""

    def __init__(self, *shape: int) -> None:
        nn.Module.__init__(self)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(shape), persistent=False)

    def held(self) -> tuple[Tensor, ...]:
        return self.get_buffer("keys"), self.get_buffer("values")


@final
class FloatStore(_Fp32Store):
    """In fp32: 8 K bytes for each token and head."""

    def __init__(self, context: int, heads: int, width: int) -> None:
        super().__init__(heads, context, 1, width)

    def write(self, k_1TGK: Tensor, v_1TGK: Tensor, start: int, places_T: Tensor | None) -> None:
        for new_1TGK, kept_GN1K in zip((k_1TGK, v_1TGK), self.held(), strict=True):
            _put(self.arranged(new_1TGK, new_1TGK.shape[2]), kept_GN1K, start, places_T)

    @staticmethod
    def attend(q_CRJK: Tensor, first_1: Tensor, mask_RN: Tensor | None, scale: float, *held: Tensor) -> Tensor:
        start = as_number(first_1) if mask_RN is None else 0
        return torch.ops.llama.custom_sdpa(q_CRJK, *held, start, mask_RN, 0.0, mask_RN is None, scale)


@final
class BatchOfOneStore(_Fp32Store):
    """In fp32, [1, N, G, K], for Vulkan: its kernels take a batch of one, and no factor on q.k but ``K ** -0.5``."""

    apart = False

    def __init__(self, context: int, heads: int, width: int) -> None:
        super().__init__(1, context, heads, width)

    def write(self, k_1TGK: Tensor, v_1TGK: Tensor, start: int, places_T: Tensor | None) -> None:
        for new_1TGK, kept_1NGK in zip((k_1TGK, v_1TGK), self.held(), strict=True):
            _put(self.arranged(new_1TGK, new_1TGK.shape[2]), kept_1NGK, start, places_T)

    @staticmethod
    def attend(q_CRJK: Tensor, first_1: Tensor, mask_RN: Tensor | None, scale: float, *held: Tensor) -> Tensor:
        start, own = as_number(first_1) if mask_RN is None else 0, q_CRJK.shape[-1] ** -0.5
        q_CRJK = q_CRJK if math.isclose(scale, own) else q_CRJK * (scale / own)
        return torch.ops.llama.custom_sdpa(q_CRJK.contiguous(), *held, start, mask_RN, 0.0, mask_RN is None)


@final
class Int8Store(Store):
    """In 8 bits, each token's head with a scale and a zero of its own: 2 (K + 5) bytes for each token and head.

    Queries are rounded to 8 bits too, as they come.
    """

    kind = "int8"

    def __init__(self, context: int, heads: int, width: int) -> None:
        super().__init__(context, heads, width)
        self.names = [f"{of}_{what}" for of in ("keys", "values") for what in ("int8", "zeros", "scales")]
        for name in self.names:
            shape = (heads, context, 1, width if name.endswith("int8") else 1)
            kind = torch.float32 if name.endswith("scales") else torch.int8
            self.register_buffer(name, torch.zeros(shape, dtype=kind), persistent=False)

    def write(self, k_1TGK: Tensor, v_1TGK: Tensor, start: int, places_T: Tensor | None) -> None:
        new = [each for x_1TGK in (k_1TGK, v_1TGK) for each in rounded(self.arranged(x_1TGK, x_1TGK.shape[2]))]
        for new_GT1X, kept_GN1X in zip(new, self.held(), strict=True):
            _put(new_GT1X, kept_GN1X, start, places_T)

    def held(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(name) for name in self.names)

    @staticmethod
    def attend(q_CRJK: Tensor, first_1: Tensor, mask_RN: Tensor | None, scale: float, *held: Tensor) -> Tensor:
        keys, k_zeros, k_scales, values, v_zeros, v_scales = held
        queries, q_zeros, q_scales = rounded(q_CRJK)
        start = as_number(first_1) if mask_RN is None else 0
        quantization = (q_zeros, q_scales, k_zeros, k_scales, v_zeros, v_scales)
        return torch.ops.llama.custom_quantized_sdpa(
            queries, keys, values, start, mask_RN, 0.0, mask_RN is None, scale, *quantization
        )


def _put(new_GT1X: Tensor, kept_GN1X: Tensor, start: int, places_T: Tensor | None) -> None:
    if places_T is None:
        torch.ops.llama.update_cache(new_GT1X, kept_GN1X, start)
    else:
        places_GT = places_T.expand(new_GT1X.shape[0], -1).contiguous()
        torch.ops.llama.update_cache_with_indices(new_GT1X, kept_GN1X, start, places_GT)


def rounded(x_GTJK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers in 8 bits, and each token's and head's zero (int8) and scale (fp32), [G, T, J, 1]."""
    decomposed = torch.ops.quantized_decomposed
    scales, zeros = decomposed.choose_qparams_per_token_asymmetric.default(x_GTJK, torch.int8)
    int8 = decomposed.quantize_per_token.default(x_GTJK, scales, zeros, LOWEST, HIGHEST, torch.int8)
    return int8, zeros.to(torch.int8), scales.to(torch.float32)


def as_number(position_1: Tensor) -> int:
    """A position as a number; a symbol while exporting."""
    position = position_1.item()
    torch._check(position >= 0)
    return position  # type: ignore[return-value]


STORES: dict[CacheType, type[Store]] = {"float": FloatStore, "int8": Int8Store}
