"""How far apart two exact computations of a quantized net may be: one activation step.

A layer with 8-bit dynamic activations rounds each number of its input to one of 256 steps. Two kernels that add
the same numbers in another order differ in the last bit of fp32, and where a number lies on the edge between two
steps, they round it differently: the layer's input moves by one step, and everything after it a little. So the
yardstick is measured on the net itself: the largest change of its logits when, at the input of one layer, one
number per token is rounded one step differently. In a mixture of experts that largest change is a token sent to
another expert, which is as far as logits go at all; so what such a rounding changes usually is measured too, and holds
for most positions (`Step.usual`).
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import final

import torch
from torch import Tensor, nn

from phi3kit.export.program import Program
from phi3kit.export.readings import Change, Reading, read

LEVELS = 255  # steps between the smallest and the largest of 256 values
FLOAT_STEP = 1e-4  # without rounding, logits agree to this share of the largest
EARLY = 0.25  # of the layers: half of the trials move them


@final
@dataclass(frozen=True)
class Step:
    """What one activation step changes.

    Args:
        largest: of any logit.
        usual: the largest logit's change of half of all positions, where one of the first layers' inputs is moved.
    """

    largest: float
    usual: float


@final
class Trials:
    """Changes of readings that tell one activation step.

    Half of them move the input of the first quarter of the layers: what is moved early has more layers to grow in.

    Args:
        program: the quantized net, run eagerly.
        readings: numbers of the readings that are changed, with their ids read from position 0 on.
        count: how many trials, each with another layer, reading and choice of numbers.
        seed: of the choices.
    """

    def __init__(self, program: Program, readings: Sequence[int], count: int = 200, seed: int = 0) -> None:
        layers = [m for m in program.net.modules() if isinstance(m, nn.Linear) and rounds_its_input(m)]
        choose = random.Random(seed)
        moved = partial(_moved, generator=torch.Generator().manual_seed(seed))
        self.changes = [
            Change(choose.choice(readings), layers[int(len(layers) * (trial / count) ** 2)], moved)
            for trial in range(count if layers else 0)
        ]
        self._early = sum(trial / count < EARLY**0.5 for trial in range(len(self.changes)))

    def step(self, said: Sequence[Tensor], moved: Iterable[Tensor]) -> Step:
        """The changes of logits; for a net without 8-bit activations both are 1e-4 of its largest logit.

        The largest of few trials is less than that of the many that are compared with it, so a share of
        ``1 / sqrt(count)`` is added. Positions where nothing changes do not count: an expert was moved that works for
        others.

        Args:
            said: logits of every reading, [T, V].
            moved: of every change.
        """
        if not self.changes:
            float_step = FLOAT_STEP * max(float(of_ids_said(logits_TV).abs().max()) for logits_TV in said)
            return Step(float_step, float_step)
        changed = [
            (moved_TV - said[change.of]).abs().amax(-1).tolist()
            for change, moved_TV in zip(self.changes, moved, strict=True)
        ]
        early = [apart for positions in changed[: self._early] for apart in positions if apart]
        largest = max(map(max, changed)) * (1 + len(changed) ** -0.5)
        return Step(largest, statistics.median(early) if early else largest)


def activation_step(program: Program, sequences: Sequence[Sequence[int]]) -> Step:
    """One activation step of a net that reads some ids."""
    trials = Trials(program, range(len(sequences)))
    said = read(program, list(map(Reading, sequences)), trials.changes)
    return trials.step(list(islice(said, len(sequences))), said)


def of_ids_said(logits_TV: Tensor) -> Tensor:
    """The logits of ids that can be said at all (`Decoder.unused_ids` have the lowest number there is), [N]."""
    return logits_TV[logits_TV > torch.finfo(logits_TV.dtype).min]


def rounds_its_input(layer: nn.Linear) -> bool:
    """Whether torchao made the layer round its input to 8 bits."""
    return getattr(layer.weight, "activation_quantization", None) is not None


def _moved(x_BTD: Tensor, generator: torch.Generator) -> Tensor:
    """The input with one number of each token moved by one of that token's steps, up or down."""
    highest_BT1 = x_BTD.amax(-1, keepdim=True).clamp(min=0)
    lowest_BT1 = x_BTD.amin(-1, keepdim=True).clamp(max=0)
    shape = highest_BT1.shape
    sign_BT1 = torch.randint(2, shape, generator=generator) * 2.0 - 1.0
    index_BT1 = torch.randint(x_BTD.shape[-1], shape, generator=generator)
    return x_BTD.scatter_add(-1, index_BT1, sign_BT1 * (highest_BT1 - lowest_BT1) / LEVELS)
