"""Which data a phase can learn from: pairs taken for single texts, or texts for pairs, would train without a word."""

from __future__ import annotations

from phi3kit import plugins
from phi3kit.errors import UserError
from phi3kit.phases.batches import Batches
from phi3kit.phases.phase import Phase


def check_kind(phase: Phase, data: Batches) -> None:
    """Refuse data whose rows are not what the phase takes, and replayed data whose rows are not texts.

    Raises:
        UserError: names the installed kinds of data that fit.
    """
    _check(type(phase).__name__, phase.takes, data)
    if data.replay is not None:
        _check("replay", "texts", data.replay)


def _check(who: str, takes: str, data: Batches) -> None:
    if takes in ("", data.gives):
        return
    fitting = sorted(c.name for c in plugins.load().of(Batches) if getattr(c.cls, "gives", "") == takes)
    raise UserError(
        f"{who} needs {takes}, and {type(data).__name__} gives {data.gives}; use "
        f"{', '.join(fitting) or f'data whose class says gives = {takes!r}'}"
    )
