"""ExecuTorch's MultimodalRunner, spoken to in ids and pixels; and the check that it says what the net would.

As with `Runner`, what it generates is read through a tokenizer of ids; what it reads is given as ids at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from phi3kit import executorch_ops, torchvision_ops
from phi3kit.export.runner import write_tokenizer_of_ids
from phi3kit.export.vision import VisionPrograms
from phi3kit.native_output import silenced

NEW_TOKENS = 16  # per image


@final
class VisionRunner:
    """A MultimodalRunner on a `.pte`.

    Args:
        model: the `.pte`.
        vocab_size: number of logits.
        folder: where the tokenizer of ids may be written.
    """

    def __init__(self, model: Path, vocab_size: int, folder: Path) -> None:
        tokenizer = write_tokenizer_of_ids(folder, vocab_size)
        executorch_ops.register()
        torchvision_ops.declare()
        with silenced():
            from executorch.extension.llm.runner import MultimodalRunner

            self._runner = MultimodalRunner(str(model), str(tokenizer))

    def generate(self, parts: Sequence[list[int] | Tensor], max_new_tokens: int) -> list[int]:
        """From the beginning: greedy continuation of ids and images ([3, Y, X] pixels); a stop id comes last."""
        from executorch.extension.llm.runner import GenerationConfig, make_image_input, make_token_input

        pieces: list[str] = []
        config = GenerationConfig(echo=False, max_new_tokens=max_new_tokens, temperature=0.0)
        with silenced():
            self._runner.reset()
            inputs = [make_image_input(part) if isinstance(part, Tensor) else make_token_input(part) for part in parts]
            self._runner.generate(inputs, config, pieces.append)
        return [int(i) for i in re.findall(r"\[t(\d+)\]", "".join(pieces))]


@torch.no_grad()
def check_vision(
    runner: VisionRunner,
    programs: VisionPrograms,
    images: Sequence[Tensor],
    around: tuple[list[int], list[int]],
    step: float,
) -> dict[str, Any]:
    """Greedy tokens after text, image, text are those that the programs, run eagerly, give most to.

    Args:
        runner: on the `.pte`.
        programs: what was lowered.
        images: of the programs' shape.
        around: ids before and after each image.
        step: the largest difference of logits allowed (`activation_step`).
    """
    before, after = around
    faults, differences, tokens = [], 0, 0
    for number, pixels_3YX in enumerate(images):
        answer = runner.generate([before, pixels_3YX, after], NEW_TOKENS)
        tokens += len(answer)
        embed = lambda ids: programs.tokens(torch.tensor([ids]))  # noqa: E731
        rows_1TD = torch.cat((embed(before), programs.image(pixels_3YX), embed([*after, *answer])), dim=1)
        logits_TV = programs.rows.every_logit(rows_1TD)[-len(answer) - 1 : -1]
        for at, (id, logits_V) in enumerate(zip(answer, logits_TV, strict=True)):
            gap = float(logits_V.max() - logits_V[id])
            differences += gap > 0
            if gap > step:
                best = int(logits_V.argmax())
                faults.append(f"image {number}, token {at}: {id}, the net prefers {best} by {gap:.3g}")
        if not answer:
            faults.append(f"image {number}: MultimodalRunner said nothing")
    return {"images": len(images), "tokens": tokens, "differences": differences, "faults": faults}
