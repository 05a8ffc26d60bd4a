"""What quantization cost, on held-out text: the program itself beside the float net."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from phi3kit.measures import kl_divergence, perplexity, token_log_probs, top1_agreement
from phi3kit.model import Decoder
from phi3kit.model.engine import Engine


@torch.inference_mode()
def compare_on_text(net: Decoder, engine: Engine, blocks: Iterable[Tensor]) -> dict[str, Any]:
    """Perplexity of both, KL divergence (nats per token) and top-1 agreement of the program to the float net.

    Args:
        net: the float net.
        engine: the program; it reads each block token by token.
        blocks: ids, [T] each, at least two.
    """
    wanted, got, labels = [], [], []
    for block_T in blocks:
        ids = block_T.tolist()
        wanted.append(net(block_T[None])[0, :-1])
        engine.reset()
        got.append(torch.stack([engine.ingest([i]) for i in ids[:-1]]))
        labels.append(block_T[1:])
    engine.reset()
    wanted_NV, got_NV, labels_N = torch.cat(wanted), torch.cat(got), torch.cat(labels)
    loss = {
        name: -float(token_log_probs(x, labels_N).mean()) for name, x in (("float", wanted_NV), ("program", got_NV))
    }
    return {
        "tokens": len(labels_N),
        "perplexity": {name: perplexity(value) for name, value in loss.items()},
        "kl_to_float": float(kl_divergence(wanted_NV, got_NV)),
        "top1_agreement": float(top1_agreement(wanted_NV, got_NV)),
    }
