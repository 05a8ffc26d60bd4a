"""Parts that a device computes in another form than PyTorch trains them in.

A component says which with ``on_device()`` (`phi3kit.families`): experts in one stacked matrix become linear layers of
their own, which a quantizer finds; attention by patterns becomes one fused call per pattern.
"""

from __future__ import annotations

from torch import nn

from phi3kit.families import Attention, FeedForward


def for_device(module: nn.Module) -> None:
    """Give every part of a net, or of a block, its device form, in place; parts that have it already keep it.

    Weights are handed over, not copied. Call it while they are float: a quantizer then sees all matrices as
    ``nn.Linear``.
    """
    for name, child in module.named_children():
        if isinstance(child, Attention | FeedForward):
            form = child.on_device()
            if form is not child:
                setattr(module, name, form.train(child.training))
        else:
            for_device(child)


def notes(net: nn.Module) -> list[str]:
    """What the device forms of a net's parts cost, each said once: their ``device_note``."""
    said = (getattr(module, "device_note", None) for module in net.modules())
    return list(dict.fromkeys(note for note in said if note is not None))
