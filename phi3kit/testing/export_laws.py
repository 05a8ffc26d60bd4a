"""Laws of `Quantizer`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import torch

from phi3kit.families import Quantizer
from phi3kit.testing import tiny
from phi3kit.testing.law import require, require_close


@torch.no_grad()
def check_quantizer(build: Callable[[], Quantizer], bound: float = 0.35) -> None:
    """Every law of `Quantizer`: it changes weights, always alike, within a bound; and says what it did.

    Args:
        build: makes the quantizer.
        bound: largest relative error of the tiny net's logits, |quantized - float| / |float| (Frobenius). Its
            random weights are the hardest case: 4 bits in groups of 32 make about 0.2 of it.
    """
    net, tokens_BT = tiny.net(), tiny.batch().tokens_BT
    wanted_BTV = net(tokens_BT)
    first, second = copy.deepcopy(net), copy.deepcopy(net)
    build().quantize(first)
    build().quantize(second)
    got_BTV = first(tokens_BT)
    require_close(second(tokens_BT), got_BTV, 0.0, "quantizing twice gives the same net", "logits")
    error = float((got_BTV - wanted_BTV).norm() / wanted_BTV.norm())
    require(error > 0, "quantizing changes the net", "logits are the same to the last bit")
    require(error <= bound, "the error stays within its bound", f"{error:.3f} of the logits, allowed {bound:.3f}")
    described = build().describe()
    law = "a quantizer describes itself in JSON"
    try:
        text = json.dumps(described)
    except TypeError as error_of_json:
        require(False, law, f"{described!r:.80}: {error_of_json}")
    require(bool(described) and json.loads(text) == described, law, f"{described!r:.80} came back as {text:.80}")
