"""Training a part of a net: the other parameters stay as they are, and cost neither gradients nor averages."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import final

from lightning import Callback, LightningModule, Trainer

from phi3kit.errors import UserError
from phi3kit.phases.phase import Phase


@final
class Freeze(Callback):
    """Parameters that do not learn.

    Args:
        parameters: patterns of their names in the net, ``*`` for anything: "layers.*.mlp.*", "embed_tokens.weight".
    """

    def __init__(self, parameters: list[str]) -> None:
        self.parameters = parameters

    def setup(self, trainer: Trainer, phase: LightningModule, stage: str) -> None:
        assert isinstance(phase, Phase)
        own = dict(phase.net.named_parameters())
        for pattern in self.parameters:
            names = fnmatch.filter(own, pattern)
            if not names:
                raise UserError(f"Freeze: no parameter of the net is called {pattern!r}; there are e.g. {_some(own)}")
            for name in names:
                own[name].requires_grad_(False)
        if not any(parameter.requires_grad for parameter in own.values()):
            raise UserError(f"Freeze: {', '.join(self.parameters)} leaves nothing to learn; name fewer")


def _some(own: Iterable[str]) -> str:
    """One name of each kind, as they are in the first layer."""
    return ", ".join(name for name in own if not name.startswith("layers.") or name.startswith("layers.0."))
