"""The net as a device runs it: ``forward(tokens, input_pos) -> logits`` of the last token, its cache inside."""

from __future__ import annotations

from typing import Any, cast, final

import torch
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.export.device_cache import DeviceCache
from phi3kit.model import Decoder
from phi3kit.native_output import silenced


@final
class Program(nn.Module):
    """A decoder with one table of positions and a cache of its own, one conversation at a time.

    The signature is what ExecuTorch's TextLLMRunner calls (1.4, extension/llm/runner). It also runs eagerly:
    that is the reference a lowered program is compared with.

    Args:
        net: the decoder, quantized or not; it is used, not copied, and its position is replaced.
        context: tokens a conversation may have.

    Raises:
        UserError: `context` is longer than the net's.
    """

    def __init__(self, net: Decoder, context: int) -> None:
        super().__init__()
        if not 0 < context <= net.dims.context:
            raise UserError(
                f"context {context} does not fit; the net was trained for {net.dims.context} tokens, "
                "give at most that many"
            )
        self.net = net
        self.net.position = net.position.fixed_for(context)
        self.context = context
        self.cache = DeviceCache(net.dims, context)
        self.eval().requires_grad_(False)

    def forward(self, tokens_1T: Tensor, input_pos_1: Tensor) -> Tensor:
        """Store tokens from position `input_pos` on; logits of the last one, [1, V] fp32."""
        return self.net.logits(self._hidden(tokens_1T, input_pos_1)[:, -1])

    @torch.no_grad()
    def every_logit(self, ids: list[int], start: int = 0) -> Tensor:
        """Eagerly: store `ids` from position `start` on; logits of each, [T, V]."""
        with silenced():  # ExecuTorch's operators log "No temp allocator provided" with every eager call
            return self.net.logits(self._hidden(torch.tensor([ids]), torch.tensor([start])))[0]

    def _hidden(self, tokens_1T: Tensor, input_pos_1: Tensor) -> Tensor:
        start, new = cast(int, input_pos_1[0].item()), tokens_1T.shape[1]  # a symbol while exporting
        torch._check(start >= 0)
        torch._check(start + new <= self.context)
        self.cache.begin(start)
        positions_1T = (start + torch.arange(new))[None]
        return self.net.hidden(tokens_1T, positions_1T, cache=self.cache)


def trace(program: Program) -> torch.export.ExportedProgram:
    """The program as a graph, for any number of tokens up to its context."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tokens = torch.export.Dim("tokens", min=1, max=program.context)
    example = (torch.tensor([[1, 2, 3]]), torch.tensor([0]))
    shapes: tuple[Any, Any] = ({1: tokens}, {0: torch.export.Dim.STATIC})
    with silenced(), torch.no_grad(), sdpa_kernel([SDPBackend.MATH]):
        return torch.export.export(program, example, dynamic_shapes=shapes, strict=False)


def metadata(program: Program, *, eos_ids: list[int], bos_id: int | None) -> dict[str, Any]:
    """The constant methods a runner asks for (ExecuTorch 1.4, extension/llm/runner/constants.h).

    The runner reads ``get_eos_ids``, plural; without it a model never stops. The sequence length equals the
    context length: a smaller one means "sliding window" to it.
    """
    dims = program.net.dims
    return {
        "get_max_seq_len": program.context,
        "get_max_context_len": program.context,
        "get_eos_ids": eos_ids,
        "get_bos_id": eos_ids[-1] if bos_id is None else bos_id,
        "get_vocab_size": dims.vocab_size,
        "get_n_layers": dims.n_layers,
        "enable_dynamic_shape": True,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": True,
    }
