"""The cache a bundle carries: fixed buffers, written and attended over by ExecuTorch's own operators.

Works eagerly and under ``torch.export``. Special here: a mask makes the operator look at the whole buffer for every
token, so as long as a conversation is short enough for each token to see all before it, none is used; the program
chooses at each step (``torch.cond``). Where masks are needed, all layers of a rule share one.

Shapes: T new tokens, N the context, G key/value heads, H query heads, J query heads of a key/value head with rules of
their own, K head width; always one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from phi3kit import executorch_ops
from phi3kit.errors import UserError
from phi3kit.export.stores import CacheType, FloatStore, Store, store
from phi3kit.families import FixedCache, Seen
from phi3kit.model.decoder import Block, Decoder


@dataclass(frozen=True)
class Window(Seen):
    """Each token sees the last `window` tokens, itself included."""

    window: int

    @property
    def reach(self) -> int:
        return self.window

    def seen(self, queries_T: Tensor, keys_N: Tensor) -> Tensor:
        q_T11 = queries_T[:, None, None]
        return (keys_N <= q_T11) & (keys_N > q_T11 - self.window)


@final
class DeviceCache(nn.Module, FixedCache):
    """Keys and values of up to `context` tokens of every layer.

    Args:
        net: whose attention stores into it.
        context: how many tokens it holds.
        kind: "float" or "int8".
    """

    def __init__(self, net: Decoder, context: int, kind: CacheType = "float") -> None:
        super().__init__()
        executorch_ops.register()
        self.context, self.kind = context, kind
        self.first_1, self.start, self.new = (
            torch.tensor([0]),
            0,
            0,
        )  # of the pass; the two numbers are symbols in export
        self.masks: dict[Seen, Tensor] = {}
        self.stores = nn.ModuleDict()
        for layer, block in enumerate(net.layers):
            assert isinstance(block, Block)
            for number, heads in enumerate(block.self_attn.stores(net.dims.kv_heads)):
                self.stores[f"{layer}_{number}"] = store(kind, context, heads, net.dims.head_width)

    @property
    def length(self) -> int:
        """Tokens stored before this pass."""
        return self.start

    def begin(self, first_1: Tensor, new: int) -> int:
        """The next forward pass stores `new` tokens from position `first` on; that position."""
        self.first_1, self.new, self.masks = first_1, new, {}
        self.start = _number(first_1)
        torch._check(self.start + new <= self.context)
        return self.start

    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        """Store; return everything up to and including the new tokens."""
        kept = self._store(layer, 0)
        if not isinstance(kept, FloatStore):
            raise UserError(
                "this net's attention reads its cache itself, which an int8 cache cannot do; use cache: float"
            )
        kept.write(k_BTGK, v_BTGK, self.start)
        k_BNGK, v_BNGK = kept.held()
        end = self.start + self.new
        return k_BNGK.narrow(1, 0, end), v_BNGK.narrow(1, 0, end)

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """Store the new tokens and attend over all; a window that is never reached is none."""
        return self.attend_seen(
            layer, q_BTHK, k_BTGK, v_BTGK, scale=scale, rule=Window(self.context if window is None else window)
        )

    def attend_seen(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, rule: Seen, store: int = 0
    ) -> Tensor:
        kept = self._store(layer, store)
        kept.write(k_BTGK, v_BTGK, self.start)
        attend, groups, kinds = type(kept).attend, k_BTGK.shape[2], rule.kinds

        def plain(q_1THK: Tensor, first_1: Tensor, *held: Tensor) -> Tensor:
            return attend(q_1THK, _number(first_1), None, scale, *held)

        def masked(q_1THK: Tensor, first_1: Tensor, mask_RN: Tensor, *held: Tensor) -> Tensor:
            if kinds == 1:
                return attend(q_1THK, 0, mask_RN, scale, *held)
            # heads of one key/value head become rows, for each of which the mask has one
            rows_1RGK = q_1THK.unflatten(2, (groups, kinds)).transpose(2, 3).flatten(1, 2)
            out_1RGK = attend(rows_1RGK, 0, mask_RN, scale, *held)
            return out_1RGK.unflatten(1, (-1, kinds)).transpose(2, 3).flatten(2, 3)

        operands = (q_BTHK, self.first_1)
        if rule.reach >= self.context:
            return plain(*operands, *kept.held())
        if not torch.compiler.is_exporting():
            short = self.start + self.new <= rule.reach
            return plain(*operands, *kept.held()) if short else masked(*operands, self._mask(rule), *kept.held())
        return torch.cond(
            self.first_1[0] + self.new <= rule.reach,
            lambda q, first, mask, *held: plain(q, first, *held),
            masked,
            (*operands, self._mask(rule), *kept.held()),
        )

    def _store(self, layer: int, number: int) -> Store:
        kept = self.stores[f"{layer}_{number}"]
        assert isinstance(kept, Store)
        return kept

    def _mask(self, rule: Seen) -> Tensor:
        """What the operator adds to the scores: 0 where a row sees a key, -inf elsewhere, [T J, N]."""
        if rule not in self.masks:
            queries_T = self.start + torch.arange(self.new)
            seen_TJN = rule.seen(queries_T, torch.arange(self.context))
            self.masks[rule] = torch.where(seen_TJN.flatten(0, 1), 0.0, float("-inf"))
        return self.masks[rule]


def _number(first_1: Tensor) -> int:
    """The position as a number; a symbol while exporting."""
    first = first_1[0].item()
    torch._check(first >= 0)
    return first  # type: ignore[return-value]
