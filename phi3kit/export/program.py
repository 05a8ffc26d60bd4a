"""The net as a device runs it: ``forward(tokens, input_pos) -> logits`` of the last token, its cache inside."""

from __future__ import annotations

from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.export.device import for_device
from phi3kit.export.device_cache import DeviceCache
from phi3kit.export.lean_lowering import shapes_alone
from phi3kit.export.one_token import OneTokenCache, keep_in_range
from phi3kit.export.products import means_as_products
from phi3kit.export.readings import Reading, read
from phi3kit.export.stores import STORES, BatchOfOneStore, CacheType
from phi3kit.families import Form
from phi3kit.model import Decoder
from phi3kit.native_output import silenced

AtEnd = Literal["fail", "slide"]
SLIDES, SLIDING_STEP = 8, 256  # contexts that a sliding conversation may last; tokens that it reads at once
DEFAULT_CONTEXT = 4096  # tokens, where a recipe names none and the net has more
INT8_ABOVE = 1024  # tokens of context from which on keys and values are kept in 8 bits unless a recipe says otherwise


@final
class Program(nn.Module):
    """A decoder with one table of positions and a cache of its own, one conversation at a time.

    The signature is what ExecuTorch's TextLLMRunner calls (1.4, extension/llm/runner). It also runs eagerly:
    that is the reference a lowered program is compared with.

    Args:
        net: the decoder, quantized or not; it is used, not copied, takes its device form, and its position is replaced.
        context: tokens a conversation may have.
        cache: keys and values in "float" or "int8"; None: int8 where the context is above 1024 tokens.
        at_end: a conversation that reaches the context fails, or "slide": it goes on for up to eight contexts, each
            token seeing the last `context`.
        form: as its backend wants it (`phi3kit.families.Form`); but for the first, its cache is float and ends.

    Raises:
        UserError: `context` is longer than the net's.
    """

    def __init__(
        self,
        net: Decoder,
        context: int,
        cache: CacheType | None = None,
        at_end: AtEnd = "fail",
        *,
        form: Form = "dynamic",
    ) -> None:
        super().__init__()
        context = context_of(net, context)
        for_device(net)
        if form == "dynamic":
            means_as_products(net)
        self.net, self.form = net, form
        store = BatchOfOneStore if form == "batch of one" else STORES[cache or cache_for(context)]
        self.cache: DeviceCache | OneTokenCache
        if form == "one token":
            self.context, self.step = context, 1
            self.cache = OneTokenCache(net, context)
            keep_in_range(net)
        elif at_end == "slide":
            self.context, self.step = SLIDES * context, min(context, SLIDING_STEP)
            self.cache = DeviceCache(net, context, store, self.step)
        else:
            self.context, self.step = context, context
            self.cache = DeviceCache(net, context, store)
        # the list that the context asks for, and as many positions as a conversation may have
        self.net.position = net.position.fixed_for(context).fixed_for(self.context)
        self.eval().requires_grad_(False)

    def forward(self, tokens_1T: Tensor, input_pos_1: Tensor) -> Tensor:
        """Store tokens from position `input_pos` on; logits of the last one, [1, V] fp32."""
        return self.net.logits(self._hidden(tokens_1T, input_pos_1)[:, -1])

    def every_logit(self, ids: list[int], start: int = 0) -> Tensor:
        """Eagerly: store `ids` from position `start` on; logits of each, [T, V]."""
        (logits_TV,) = read(self, [Reading(ids, start)])
        return logits_TV

    def clear(self) -> None:
        """Empty the cache. Conversations need no such thing: what is left of others is never looked at."""
        for buffer in self.cache.buffers():
            buffer.zero_()

    def _hidden(self, tokens_1T: Tensor, input_pos_1: Tensor) -> Tensor:
        start = self.cache.begin(input_pos_1, tokens_1T.shape[1])
        positions_1T = (start + torch.arange(tokens_1T.shape[1]))[None]
        return self.net.hidden(tokens_1T, positions_1T, cache=self.cache)


def context_of(net: Decoder, wanted: int | None) -> int:
    """Tokens of a conversation: as many as wanted, or the net's, at most 4096. Raises `UserError` beyond the net's."""
    if wanted is None:
        return min(net.dims.context, DEFAULT_CONTEXT)
    if not 0 < wanted <= net.dims.context:
        raise UserError(
            f"context {wanted} does not fit; the net was trained for {net.dims.context} tokens, give at most that many"
        )
    return wanted


def cache_for(context: int) -> CacheType:
    """How keys and values are kept where a recipe does not say."""
    return "int8" if context > INT8_ABOVE else "float"


def trace(program: Program) -> torch.export.ExportedProgram:
    """The program as a graph, for any number of tokens up to its context, or for one."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    one_token, dim = program.form == "one token", torch.export.Dim
    example = (torch.tensor([[1] if one_token else [1, 2, 3]]), torch.tensor([0]))
    tokens = dim.STATIC if one_token else dim("tokens", min=1, max=program.step)
    shapes: tuple[Any, Any] = ({1: tokens}, {0: dim.STATIC})
    with silenced(), torch.no_grad(), sdpa_kernel([SDPBackend.MATH]), shapes_alone():
        return torch.export.export(program, example, dynamic_shapes=shapes, strict=False)


def metadata(program: Program, *, eos_ids: list[int], bos_id: int | None) -> dict[str, Any]:
    """The constant methods a runner asks for (ExecuTorch 1.4, extension/llm/runner/constants.h).

    The runner reads ``get_eos_ids``, plural; without it a model never stops. A sequence length below the context
    length means "sliding window" to it: it is the most tokens that it gives to a program at once, or, where shapes are
    not dynamic, one by one.
    """
    dims, one_token = program.net.dims, program.form == "one token"
    return {
        "get_max_seq_len": program.context if one_token else program.step,
        "get_max_context_len": program.context,
        "get_eos_ids": eos_ids,
        "get_bos_id": eos_ids[-1] if bos_id is None else bos_id,
        "get_vocab_size": dims.vocab_size,
        "get_n_layers": dims.n_layers,
        "enable_dynamic_shape": not one_token,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": not one_token,
    }
