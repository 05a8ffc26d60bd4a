"""The last positions of a context that is too long to be filled in a proof.

A beginning is read, then ids at the last positions with nothing between: cache, window and table of positions are used
to their end, at the cost of a few tokens. The operators attend over the empty places too, as zeros, so program and net
must have stored the same before: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from phi3kit.export.program import Program
from phi3kit.export.readings import Reading
from phi3kit.export.rewind import Reads, difference

COUNT = 24  # ids at the end


@final
@dataclass(frozen=True)
class Far:
    """Ids read at the beginning, and at the end.

    Args:
        first: from position 0 on.
        last: up to the last position.
        start: of the first of these.
    """

    first: list[int]
    last: list[int]
    start: int

    @classmethod
    def of(cls, ids: Sequence[int], program: Program) -> Far:
        """The same ids at both places, at most 24 of them at the end."""
        last = list(ids[:COUNT])
        return cls(list(ids), last, program.context - len(last))

    def readings(self) -> list[Reading]:
        """For the net, whose cache must be empty; the second says what is compared."""
        return [Reading(self.first), Reading(self.last, self.start)]


def read_far(forward: Reads, far: Far) -> list[Tensor]:
    """Logits after each of the last ids, read one by one, and after all of them, read at once: [V] each.

    Args:
        forward: reads with a program whose cache is empty.
        far: what is read.
    """
    forward(far.first, 0)
    one_by_one = [forward([id], far.start + at) for at, id in enumerate(far.last)]
    return [*one_by_one, forward(far.last, far.start)]


def check_far(found: Sequence[Tensor], wanted_TV: Tensor, far: Far, step: float) -> dict[str, Any]:
    """The logits at the last positions are those of the quantized net.

    Args:
        found: of `read_far`.
        wanted_TV: the net's, after each of the last ids.
        far: what was read.
        step: how much they may differ (`activation_step`).
    """
    apart = difference(torch.stack(list(found)), torch.cat([wanted_TV, wanted_TV[-1:]]))
    fault = f"logits at the last positions, from {far.start} on, differ by {apart:.3g}, more than one activation step"
    return {
        "start": far.start,
        "tokens": len(far.last),
        "largest_difference": apart,
        "faults": [] if apart <= step else [fault],
    }
