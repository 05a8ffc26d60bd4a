"""ExecuTorch's own TextLLMRunner, spoken to in ids.

Apps run this runner. It takes text, so it gets a tokenizer whose only entries are ``[t0]``, ``[t1]``, … as special
tokens: ids go in and come out exactly, whatever the model's own tokenizer would make of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from phi3kit import executorch_ops, torchvision_ops
from phi3kit.native_output import silenced


class Turn(NamedTuple):
    """What one call of the runner did: ids generated, and how many prompt ids it read."""

    ids: list[int]
    read: int


@final
class Runner:
    """A TextLLMRunner on a `.pte`; it keeps its position between calls, as in an app.

    Two of its habits matter to whoever compares with it (ExecuTorch 1.4): the first id generated is the most
    likely one whatever the temperature, and is never compared with the stop ids.

    Args:
        model: the `.pte`.
        vocab_size: number of logits.
        folder: where the tokenizer of ids may be written.
    """

    def __init__(self, model: Path, vocab_size: int, folder: Path) -> None:
        self._runner = opened("TextLLMRunner", model, vocab_size, folder)

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> Turn:
        """Greedy continuation of everything read so far and `ids`; a stop id comes last."""
        from executorch.extension.llm.runner import GenerationConfig

        pieces: list[str] = []
        read: list[int] = []
        config = GenerationConfig(echo=False, max_new_tokens=max_new_tokens, temperature=0.0)
        with silenced():
            self._runner.generate(
                "".join(f"[t{i}]" for i in ids),
                config,
                pieces.append,
                lambda stats: read.append(stats.num_prompt_tokens),
            )
        return Turn(ids_in(pieces), sum(read))

    def reset(self) -> None:
        """Begin at position 0."""
        with silenced():
            self._runner.reset()


def opened(runner: str, model: Path, vocab_size: int, folder: Path) -> Any:
    """One of ExecuTorch's runners on a `.pte`, with the tokenizer below, which is written into the folder."""
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps(tokenizer_of_ids(vocab_size)))
    executorch_ops.register()
    torchvision_ops.declare()
    with silenced():
        from executorch.extension.llm import runner as runners

        return getattr(runners, runner)(str(model), str(tokenizer))


def ids_in(pieces: Sequence[str]) -> list[int]:
    """The ids that a runner with the tokenizer below has spelt."""
    return [int(i) for i in re.findall(r"\[t(\d+)\]", "".join(pieces))]


def tokenizer_of_ids(vocab_size: int) -> dict[str, object]:
    """A tokenizer.json in which id i is spelt ``[ti]``."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": f"[t{i}]", **flags, "special": True} for i in range(vocab_size)],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
