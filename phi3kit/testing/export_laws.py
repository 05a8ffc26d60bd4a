"""Laws of `Quantizer` and `Backend`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, get_args

import torch

from phi3kit.export import Program, trace
from phi3kit.export.calibration import parts, quantize_net
from phi3kit.families import Backend, Need, Quantizer
from phi3kit.model import Decoder
from phi3kit.quantizers.layers import linears
from phi3kit.testing import tiny
from phi3kit.testing.law import require, require_close


@torch.no_grad()
def check_quantizer(build: Callable[[], Quantizer], bound: float = 0.4) -> None:
    """Every law of `Quantizer`: it changes weights, always alike, within a bound; at once as part by part; and says
    what it did, and whether inputs are rounded too.

    Args:
        build: makes the quantizer.
        bound: largest relative error of the tiny net's logits, |quantized - float| / |float| (Frobenius). Its
            random weights are the hardest case: 4 bits in groups of 32 make 0.35 of it.
    """
    net, tokens_BT = tiny.net(), tiny.batch().tokens_BT
    wanted_BTV = net(tokens_BT)
    first, second = _quantized(net, build()), _quantized(net, build())
    got_BTV = first(tokens_BT)
    require_close(second(tokens_BT), got_BTV, 0.0, "quantizing twice gives the same net", "logits")
    error = float((got_BTV - wanted_BTV).norm() / wanted_BTV.norm())
    require(error > 0, "quantizing changes the net", "logits are the same to the last bit")
    require(error <= bound, "the error stays within its bound", f"{error:.3f} of the logits, allowed {bound:.3f}")
    law = "quantized part by part, a net is what it is quantized at once"
    require_close(_by_parts(net, build())(tokens_BT), got_BTV, 0.0, law, "logits")
    _check_description(build().describe())
    alone = any(_takes_floats(layer) for _, layer in linears(first))
    law = "a quantizer says whether its weights are alone"
    require(alone == build().weights_alone, law, f"weights_alone is {build().weights_alone}, layers say {alone}")


def _takes_floats(layer: torch.nn.Linear) -> bool:
    """Whether torchao rounded its weight, and not its input."""
    return getattr(layer.weight, "activation_quantization", "") is None


def _quantized(net: Decoder, quantizer: Quantizer) -> Decoder:
    """A copy, quantized at once; a quantizer that wants text gets some."""
    copied = copy.deepcopy(net)
    quantize_net(copied, quantizer, list(tiny.batch(rows=4).tokens_BT) if quantizer.calibrated else ())
    return copied


def _by_parts(net: Decoder, quantizer: Quantizer) -> Decoder:
    """A copy whose parts were quantized each in a net of its own: nothing is known of a part but its name."""
    if quantizer.calibrated:
        return _quantized(net, quantizer)
    copied = copy.deepcopy(net)
    quantizer.plan(copied)
    for name, part in parts(copied):
        quantizer.quantize(part, name)
    return copied


def _check_description(described: dict[str, Any]) -> None:
    law = "a quantizer describes itself in JSON"
    try:
        text = json.dumps(described)
    except TypeError as error_of_json:
        require(False, law, f"{described!r:.80}: {error_of_json}")
    require(bool(described) and json.loads(text) == described, law, f"{described!r:.80} came back as {text:.80}")


@torch.no_grad()
def check_backend(build: Callable[[], Backend]) -> None:
    """Every law of `Backend` that runs on this machine: lowered equals eager, with no delegates but its own; what it
    cannot do is among what exports need, and said in a line.

    Args:
        build: makes the backend. Where ExecuTorch's Python runtime cannot run what it lowers, it is given the program
            of an export, and only the delegates are looked at.
    """
    net = tiny.net()
    tokens_BT = tiny.batch(length=12).tokens_BT[:1]
    runs = build().delegates <= set(_runtime().backend_registry.registered_backend_names)
    for need, why in build().cannot.items():
        require(need in get_args(Need), "a backend cannot do what exports may need", f"{need!r}: {get_args(Need)}")
        require(bool(why) and "\n" not in why, "what it cannot do is said in a line", f"{need}: {why!r}")
    ordinary = runs and build().form == "dynamic"
    program = Program(net, tokens_BT.shape[1], form=build().form)
    traced = tiny.program(net, tokens_BT) if ordinary else trace(program)
    content = build().lower(traced, {"get_answer": 42})
    stray = delegates_of(content) - build().delegates
    law = "a lowered program contains the delegates its backend names, and no others"
    require(not stray, law, f"it contains {sorted(stray)} beside {sorted(build().delegates)}")
    if not ordinary:
        return
    lowered = _loaded(content)
    require("get_answer" in lowered.method_names, "metadata become constant methods", f"{lowered.method_names}")
    forward = lowered.load_method("forward")
    for length in (12, 5):
        got, wanted = forward.execute([tokens_BT[:, :length]])[0], net(tokens_BT[:, :length])
        law = "the lowered program computes what the eager net does"
        require_close(got, wanted, 1e-3, law, f"{length} tokens, logits of about {float(wanted.std()):.1f}")


def delegates_of(content: bytes) -> set[str]:
    """Names of the delegates inside a `.pte` file."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    plans = deserialize_pte_binary(content).program.execution_plan
    return {delegate.id for plan in plans for delegate in plan.delegates}


def _loaded(content: bytes) -> Any:
    return _runtime().load_program(content)


def _runtime() -> Any:
    from executorch.runtime import Runtime

    return Runtime.get()
