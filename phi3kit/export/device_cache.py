"""The cache a bundle carries: fixed buffers, written and attended over by ExecuTorch's own operators.

Works eagerly and under ``torch.export``. Special here: a mask makes the operator look at the whole buffer for every
token, so as long as a conversation is short enough for each token to see all before it, none is used; the program
chooses at each step (``torch.cond``). Where masks are needed, all layers of a rule share one.

Shapes: T new tokens, N the context, G key/value heads, H query heads, J query heads of a key/value head with rules of
their own, K head width; always one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, final

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


@dataclass(frozen=True)
class Sliding(Seen):
    """Of the tokens that another rule lets a token see, only those that are still remembered."""

    rule: Seen
    window: int

    @property
    def kinds(self) -> int:  # type: ignore[override]
        return self.rule.kinds

    @property
    def reach(self) -> int:
        return min(self.rule.reach, self.window)

    def seen(self, queries_T: Tensor, keys_N: Tensor) -> Tensor:
        remembered_T1N = (keys_N >= 0) & (keys_N > queries_T[:, None, None] - self.window)
        return self.rule.seen(queries_T, keys_N) & remembered_T1N


@final
class DeviceCache(nn.Module, FixedCache):
    """Keys and values of up to `context` tokens of every layer.

    Args:
        net: whose attention stores into it.
        context: how many tokens each token sees at most, itself included.
        kind: "float" or "int8".
        step: None: a conversation ends after `context` tokens. Otherwise it goes on, each token sees the last of them,
            and the buffers are rings with room for `step` more, the most that one pass may store.
    """

    def __init__(self, net: Decoder, context: int, kind: CacheType = "float", step: int | None = None) -> None:
        super().__init__()
        executorch_ops.register()
        self.context, self.kind, self.slides = context, kind, step is not None
        self.room = context + (step or 0)
        self.first_1 = torch.tensor([0])  # position of the pass's first token
        self.start, self.new = 0, 0  # the same, and how many tokens come; symbols while exporting
        self.masks: dict[Seen, Tensor] = {}
        self.places_1T: Tensor | None = None
        self.stores = nn.ModuleDict()
        for layer, block in enumerate(net.layers):
            for number, heads in enumerate(cast(Block, block).self_attn.stores(net.dims.kv_heads)):
                self.stores[f"{layer}_{number}"] = store(kind, self.room, heads, net.dims.head_width)

    @property
    def length(self) -> int:
        """Tokens stored before this pass."""
        return self.start

    def begin(self, first_1: Tensor, new: int) -> int:
        """The next forward pass stores `new` tokens from position `first` on; that position."""
        self.first_1, self.new, self.masks = first_1, new, {}
        self.start = _number(first_1)
        if self.slides:
            self.places_1T = ((self.start + torch.arange(new)) % self.room)[None]
        else:
            torch._check(self.start + new <= self.context)
        return self.start

    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        """Store; return everything up to and including the new tokens."""
        kept = self._store(layer, 0)
        if not isinstance(kept, FloatStore) or self.slides:
            raise UserError(
                "the net's attention reads its cache itself, which must be of fp32 and may not slide; "
                "use cache: float and at_end: fail"
            )
        kept.write(k_BTGK, v_BTGK, self.start, None)
        k_BNGK, v_BNGK = kept.held()
        end = self.start + self.new
        return k_BNGK.narrow(1, 0, end), v_BNGK.narrow(1, 0, end)

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """Store the new tokens and attend over all; a window that is never reached is none."""
        rule = Window(self.context if window is None else min(window, self.context))
        return self.attend_seen(layer, q_BTHK, k_BTGK, v_BTGK, scale=scale, rule=rule)

    def attend_seen(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, rule: Seen, store: int = 0
    ) -> Tensor:
        kept = self._store(layer, store)
        kept.write(k_BTGK, v_BTGK, self.start, self.places_1T)
        rule = Sliding(rule, self.context) if self.slides else rule
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
        if rule.reach >= self.context and not self.slides:
            return plain(*operands, *kept.held())
        if not torch.compiler.is_exporting():
            short = self.start + self.new <= rule.reach
            return plain(*operands, *kept.held()) if short else masked(*operands, self._mask(rule), *kept.held())
        out_BTHK = torch.cond(
            self.first_1[0] + self.new <= rule.reach,
            lambda q, first, mask, *held: plain(q, first, *held),
            masked,
            (*operands, self._mask(rule), *kept.held()),
        )
        # ExecuTorch 1.4 hands on a branch's own memory, which the branches of the next cond use too
        return out_BTHK.clone()

    def _store(self, layer: int, number: int) -> Store:
        kept = self.stores[f"{layer}_{number}"]
        assert isinstance(kept, Store)
        return kept

    def _mask(self, rule: Seen) -> Tensor:
        """What the operator adds to the scores: 0 where a row sees a key, -inf elsewhere, [T J, N]."""
        if rule not in self.masks:
            seen_TJN = rule.seen(self.start + torch.arange(self.new), self._positions())
            self.masks[rule] = torch.where(seen_TJN.flatten(0, 1), 0.0, float("-inf"))
        return self.masks[rule]

    def _positions(self) -> Tensor:
        """Of the tokens in the buffers, [N]; negative where there is none yet."""
        places_N = torch.arange(self.room)
        if not self.slides:
            return places_N
        last = self.start + self.new - 1
        return last - (last - places_N) % self.room


def _number(first_1: Tensor) -> int:
    """The position as a number; a symbol while exporting."""
    first = first_1[0].item()
    torch._check(first >= 0)
    return first  # type: ignore[return-value]
