"""The cache a bundle carries: fixed buffers, written and attended over by ExecuTorch's own operators.

Works eagerly and under ``torch.export``. Special here: a mask makes the operator look at the whole buffer for every
token, so as long as a conversation is short enough for each token to see all before it, none is used; the program
chooses at each step (``torch.cond``). Where masks are needed, all layers of a rule share one.

Shapes: T new tokens, N the context, G key/value heads, H query heads, J query heads of a key/value head with rules of
their own, K head width; always one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from phi3kit import executorch_ops
from phi3kit.errors import UserError
from phi3kit.export.stores import FloatStore, Store, as_number
from phi3kit.families import FixedCache, Heads, Seen
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
        store: what keeps each layer's keys and values.
        step: None: a conversation ends after `context` tokens. Otherwise it goes on, each token sees the last of them,
            and the buffers are rings with room for `step` more, the most that one pass may store.
    """

    def __init__(self, net: Decoder, context: int, store: type[Store] = FloatStore, step: int | None = None) -> None:
        super().__init__()
        executorch_ops.register()
        self.context, self.kind, self.slides = context, store.kind, step is not None
        self.room = context + (step or 0)
        self.first_1 = torch.tensor([0])  # position of the pass's first token
        self.start, self.new = 0, 0  # the same, and how many tokens come; symbols while exporting
        self.masks: dict[Seen, Tensor] = {}
        self.places_T: Tensor | None = None
        self.stores = nn.ModuleDict()
        for layer, block in enumerate(net.layers):
            for number, heads in enumerate(cast(Block, block).self_attn.stores(net.dims.kv_heads)):
                self.stores[f"{layer}_{number}"] = store(self.room, heads, net.dims.head_width)

    @property
    def length(self) -> int:
        """Tokens stored before this pass."""
        return self.start

    def begin(self, first_1: Tensor, new: int) -> int:
        """The next forward pass stores `new` tokens from position `first` on; that position."""
        self.first_1, self.new, self.masks = first_1, new, {}
        self.start = as_number(first_1)
        if self.slides:
            self.places_T = (self.start + torch.arange(new)) % self.room
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
        k_1NGK, v_1NGK = (held_GN1K.transpose(0, 2) for held_GN1K in kept.held())
        end = self.start + self.new
        return k_1NGK.narrow(1, 0, end), v_1NGK.narrow(1, 0, end)

    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """Store the new tokens and attend over all; a window that is never reached is none."""
        rule = Window(self.context if window is None else min(window, self.context))
        return self.attend_seen(layer, [Heads(q_BTHK, k_BTGK, v_BTGK, rule)], scale)[0]

    def attend_seen(self, layer: int, sets: Sequence[Heads], scale: float) -> list[Tensor]:
        kept = [self._store(layer, number) for number in range(len(sets))]
        for each, heads in zip(kept, sets, strict=True):
            each.write(heads.k_BTGK, heads.v_BTGK, self.start, self.places_T)
        rules = [Sliding(heads.rule, self.context) if self.slides else heads.rule for heads in sets]
        reach = min(rule.reach for rule in rules)
        masks = [] if reach >= self.context and not self.slides else [self._mask(rule) for rule in rules]
        kind, held = type(kept[0]), [each.held() for each in kept]
        queries = [kind.arranged(heads.q_BTHK, heads.k_BTGK.shape[2]) for heads in sets]
        shares = [(heads.k_BTGK.shape[2], heads.rule.kinds) for heads in sets]
        outputs = _Attention(kind, shares, scale, reach)(self.first_1, queries, masks, held)
        return [kind.side_by_side(out_CTJK) for out_CTJK in outputs]

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


_Held = list[tuple[Tensor, ...]]


@final
@dataclass(frozen=True)
class _Attention:
    """Attention of several sets of heads, without masks as long as none is needed.

    Exported, it is one choice for all sets, never two results alive at once: ExecuTorch 1.4 hands on a branch's own
    memory, which the branches of the next choice use too.

    Args:
        kind: of their stores.
        shares: key/value heads of each set, and the J of its rule.
        scale: factor on q.k before the softmax.
        reach: tokens up to which no masks are needed.
    """

    kind: type[Store]
    shares: list[tuple[int, int]]
    scale: float
    reach: int

    def __call__(self, first_1: Tensor, queries: list[Tensor], masks: list[Tensor], held: _Held) -> list[Tensor]:
        """The output of each set; no masks where they are never needed."""
        operands = (first_1, queries, masks, held)
        if not masks:
            return self._plain(*operands)
        return _choose(first_1[0] + queries[0].shape[1] <= self.reach, self._plain, self._masked, operands)

    def _plain(self, first_1: Tensor, queries: list[Tensor], masks: list[Tensor], held: _Held) -> list[Tensor]:
        return [
            self.kind.attend(q_CTJK, first_1, None, self.scale, *kept)
            for q_CTJK, kept in zip(queries, held, strict=True)
        ]

    def _masked(self, first_1: Tensor, queries: list[Tensor], masks: list[Tensor], held: _Held) -> list[Tensor]:
        outputs = []
        for q_CTJK, mask_RN, kept, (groups, kinds) in zip(queries, masks, held, self.shares, strict=True):
            if kinds == 1:
                outputs.append(self.kind.attend(q_CTJK, first_1, mask_RN, self.scale, *kept))
                continue
            # heads of one key/value head become rows, for each of which the mask has one: [C, T J, G / C, K]
            share = groups // q_CTJK.shape[0]
            rows_CRGK = q_CTJK.unflatten(2, (share, kinds)).transpose(2, 3).flatten(1, 2)
            out_CRGK = self.kind.attend(rows_CRGK.contiguous(), first_1, mask_RN, self.scale, *kept)
            outputs.append(out_CRGK.unflatten(1, (-1, kinds)).transpose(2, 3).flatten(2, 3))
        return outputs


def _choose(condition: Any, yes: Callable[..., Any], no: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
    """What a program decides when it runs; eagerly, now.

    ``torch.cond`` has dynamo read both branches first, which takes longer than all else that traces them; these need no
    reading, since they see nothing but their operands.
    """
    if not torch.compiler.is_exporting():
        return (yes if condition else no)(*operands)
    flat, tree = tree_flatten(operands)

    def of(branch: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *tensors: tuple(branch(*tree_unflatten(tensors, tree)))

    return list(torch.ops.higher_order.cond(condition, of(yes), of(no), tuple(flat)))
