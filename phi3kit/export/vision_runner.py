"""ExecuTorch's MultimodalRunner, spoken to in ids and pixels; and the check that it says what the net would.

As with `Runner`, what it generates is read through a tokenizer of ids; what it reads is given as ids at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from phi3kit.export.runner import ids_in, opened
from phi3kit.export.vision import VisionPrograms
from phi3kit.families import Tokenizer
from phi3kit.native_output import silenced
from phi3kit.records import Message
from phi3kit.text.template import render

IMAGES, NEW_TOKENS = 3, 16
QUESTION = "What is in the picture?"


@final
class VisionRunner:
    """A MultimodalRunner on a `.pte`.

    Args:
        model: the `.pte`.
        vocab_size: number of logits.
        folder: where the tokenizer of ids may be written.
    """

    def __init__(self, model: Path, vocab_size: int, folder: Path) -> None:
        self._runner = opened("MultimodalRunner", model, vocab_size, folder)

    def generate(self, parts: Sequence[list[int] | Tensor], max_new_tokens: int) -> list[int]:
        """From the beginning: greedy continuation of ids and images ([3, Y, X] pixels); a stop id comes last."""
        from executorch.extension.llm.runner import GenerationConfig, make_image_input, make_token_input

        pieces: list[str] = []
        config = GenerationConfig(echo=False, max_new_tokens=max_new_tokens, temperature=0.0)
        with silenced():
            self._runner.reset()
            inputs = [make_image_input(part) if isinstance(part, Tensor) else make_token_input(part) for part in parts]
            self._runner.generate(inputs, config, pieces.append)
        return ids_in(pieces)


@torch.no_grad()
def check_vision(model: Path, programs: VisionPrograms, tokenizer: Tokenizer, step: float) -> dict[str, Any]:
    """What MultimodalRunner says about images is what the programs, run eagerly, give most to, given what came before.

    Args:
        model: the `.pte`.
        programs: what was lowered.
        tokenizer: the model's.
        step: how much worse a token may be (`activation_step`).
    """
    asked = render([Message("user", QUESTION)], tokenizer, generation=True).ids
    faults, differences, tokens = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        runner = VisionRunner(model, programs.rows.net.dims.vocab_size, Path(folder))
        for number in range(IMAGES):
            pixels_3YX = some_pixels(programs.image.pixels, number)
            answer = runner.generate([asked[:1], pixels_3YX, asked[1:]], NEW_TOKENS)
            logits_TV = _logits(programs, asked[:1], pixels_3YX, [*asked[1:], *answer])[-len(answer) - 1 : -1]
            tokens += len(answer)
            for at, (id, logits_V) in enumerate(zip(answer, logits_TV, strict=True)):
                gap, best = float(logits_V.max() - logits_V[id]), int(logits_V.argmax())
                differences += id != best
                if gap > step:
                    faults.append(f"image {number}, token {at}: {id}, the reference says {best} by {gap:.3g}")
            if not answer:
                faults.append(f"image {number}: MultimodalRunner said nothing")
    return {"images": IMAGES, "tokens": tokens, "differences": differences, "faults": faults}


def some_pixels(shape: tuple[int, int, int], seed: int) -> Tensor:
    """A picture of coloured patches, [3, Y, X] fp32 of 0 to 255."""
    coarse_1388 = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return 255 * torch.nn.functional.interpolate(coarse_1388, shape[1:], mode="nearest")[0]


def _logits(programs: VisionPrograms, before: list[int], pixels_3YX: Tensor, after: list[int]) -> Tensor:
    """Logits after each row of ids, an image and ids, [T, V]."""
    first_1TD, last_1TD = (programs.tokens(torch.tensor([ids])) for ids in (before, after))
    return programs.rows.every_logit(torch.cat((first_1TD, programs.image(pixels_3YX), last_1TD), dim=1))
