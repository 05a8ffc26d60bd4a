"""A net that reads one token at a time, for devices whose programs have fixed shapes and compute in fp16 (CoreML).

Plain PyTorch operators alone. Special here: with one new token, the query heads of a key/value head are the rows of one
attention, so that no key is repeated, whatever J; and each token attends over the whole cache, with a mask.

Shapes: N the context, G key/value heads, H query heads, J query heads of a key/value head, K head width; always one
row and one new token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.export.device_cache import Window
from phi3kit.export.stores import CacheType
from phi3kit.families import FixedCache, Heads, Norm, Seen
from phi3kit.model.decoder import Block, Decoder

UNSEEN = -1e4  # added to scores in place of -inf: finite in fp16, and its exponential is zero
LARGEST = 64.0  # of what is normalised: fp16 has no squares of numbers above 255
FP16 = 65504.0  # its largest number


def keep_in_range(module: nn.Module) -> None:
    """Give every norm of a net inputs whose squares fp16 can hold, in place."""
    for name, child in module.named_children():
        if isinstance(child, Norm):
            setattr(module, name, InRange(child))
        elif not isinstance(child, InRange):
            keep_in_range(child)


@final
class InRange(nn.Module):
    """A norm of numbers that may be large: they are divided by what takes the largest to 64, which norms do not see."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x_BTD: Tensor) -> Tensor:
        largest_BT1 = x_BTD.abs().amax(-1, keepdim=True)
        return self.norm(x_BTD / (largest_BT1 / LARGEST).clamp(1.0, FP16 / LARGEST))


@final
class OneTokenCache(nn.Module, FixedCache):
    """Keys and values of up to `context` tokens of every layer, [1, G, N, K] each.

    Args:
        net: whose attention stores into it.
        context: how many tokens it holds.
    """

    def __init__(self, net: Decoder, context: int) -> None:
        super().__init__()
        self.kind: CacheType = "float"
        self.context, self.slides = context, False
        self.first_1 = torch.tensor([0])  # the new token's position
        self.masks: dict[Seen, Tensor] = {}
        for layer, block in enumerate(net.layers):
            for number, heads in enumerate(cast(Block, block).self_attn.stores(net.dims.kv_heads)):
                for what in ("keys", "values"):
                    empty_1GNK = torch.zeros(1, heads, context, net.dims.head_width)
                    self.register_buffer(f"{what}_{layer}_{number}", empty_1GNK, persistent=False)

    @property
    def length(self) -> int:
        """Tokens stored before this pass."""
        return int(self.first_1)

    def begin(self, first_1: Tensor, new: int) -> Tensor:
        """The next forward pass stores one token at position `first`; that position."""
        assert new == 1
        self.first_1, self.masks = first_1, {}
        return first_1

    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        """Impossible: what was stored has no fixed length."""
        raise UserError(
            "the net's attention reads its cache itself, which a program of fixed shapes cannot; leave backend out"
        )

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """Store the new token and attend over all, or over the last `window`."""
        rule = Window(self.context if window is None else min(window, self.context))
        return self.attend_seen(layer, [Heads(q_BTHK, k_BTGK, v_BTGK, rule)], scale)[0]

    def attend_seen(self, layer: int, sets: Sequence[Heads], scale: float) -> list[Tensor]:
        outputs = []
        for number, heads in enumerate(sets):
            keys_1GNK = self._put("keys", layer, number, heads.k_BTGK)
            values_1GNK = self._put("values", layer, number, heads.v_BTGK)
            q_1GJK = heads.q_BTHK[:, 0].unflatten(1, (keys_1GNK.shape[1], -1))
            mask_JN = self._mask(heads.rule)
            out_1GJK = F.scaled_dot_product_attention(q_1GJK, keys_1GNK, values_1GNK, attn_mask=mask_JN, scale=scale)
            outputs.append(out_1GJK.clone(memory_format=torch.contiguous_format).view(heads.q_BTHK.shape))
        return outputs

    def _put(self, what: str, layer: int, number: int, new_11GK: Tensor) -> Tensor:
        return self.get_buffer(f"{what}_{layer}_{number}").index_copy_(2, self.first_1, new_11GK.transpose(1, 2))

    def _mask(self, rule: Seen) -> Tensor:
        """What is added to the scores, [J or 1, N]; layers of equal rules share it."""
        if rule not in self.masks:
            seen_1JN = rule.seen(self.first_1, torch.arange(self.context))
            self.masks[rule] = torch.where(seen_1JN[0], 0.0, UNSEEN)
        return self.masks[rule]
