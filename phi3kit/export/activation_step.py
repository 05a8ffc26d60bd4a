"""How far apart two exact computations of a quantized net may be: one activation step.

A layer with 8-bit dynamic activations rounds each number of its input to one of 256 steps. Two kernels that add
the same numbers in another order differ in the last bit of fp32, and where a number lies on the edge between two
steps, they round it differently: the layer's input moves by one step, and everything after it a little. So the
yardstick is measured on the net itself: the largest change of its logits when, at the input of one layer, one
number per token is rounded one step differently.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from phi3kit.export.program import Program

LEVELS = 255  # steps between the smallest and the largest of 256 values
FLOAT_STEP = 1e-4  # without rounding, logits agree to this share of the largest


def activation_step(
    program: Program, said: Mapping[tuple[int, ...], Tensor], *, moves: int = 200, seed: int = 0
) -> float:
    """Largest change of any logit over `moves` trials, each with another layer, sequence and choice of numbers.

    Half of the trials move the input of the first quarter of the layers: what is moved early has more layers to grow
    in. The largest of few trials is less than that of the many that are compared with it, so a share of
    ``1 / sqrt(moves)`` is added. For a net without 8-bit activations: 1e-4 of its largest logit.

    Args:
        program: the quantized net, run eagerly.
        said: sequences of ids to run it on, each with its logits [T, V].
        moves: how many trials; they take most of the time, one forward pass each.
        seed: of the choices.
    """
    layers = [m for m in program.net.modules() if isinstance(m, nn.Linear) and rounds_its_input(m)]
    if not layers:
        return FLOAT_STEP * max(float(logits_TV.abs().max()) for logits_TV in said.values())
    choose = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    sequences, largest = list(said), 0.0
    for trial in range(moves):
        ids = choose.choice(sequences)
        layer = layers[int(len(layers) * (trial / moves) ** 2)]
        hook = layer.register_forward_pre_hook(lambda module, inputs: (_moved(inputs[0], generator),))
        try:
            moved_TV = program.every_logit(list(ids))
        finally:
            hook.remove()
        largest = max(largest, float((moved_TV - said[ids]).abs().max()))
    return largest * (1 + moves**-0.5)


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
