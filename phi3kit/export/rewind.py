"""Going back: a program reads from an earlier position on, over what it had read there.

Apps that keep the history themselves do (react-native-executorch): after an answer they go back to the end of the
question and read the answer as the template renders it, which may be other ids than were generated. TextLLMRunner does
not, so ``forward`` is called directly (`LoadedProgram.read`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

Reads = Callable[[Sequence[int], int], Tensor]  # (ids, position of the first) -> logits of the last, [V]


class Again(NamedTuple):
    """A question, the answer that was read after it, and what was then read in the answer's place."""

    question: list[int]
    answer: list[int]
    instead: list[int]

    @classmethod
    def of(cls, question: list[int], answer: list[int], following: list[int], context: int, most: int) -> Again:
        """The answer without its first id, so that nothing stays where it was, and what follows it.

        Args:
            question: ids.
            answer: to it.
            following: ids of the next question.
            context: ends all.
            most: ids of the answer that are read before going back.
        """
        instead = [*answer[1:], *following][: context - len(question)]
        return cls(question, answer[:most], instead)

    @property
    def ids(self) -> list[int]:
        """What a program has read in the end."""
        return [*self.question, *self.instead]


def read_again(forward: Reads, conversations: Sequence[Again]) -> list[Tensor]:
    """Logits after each conversation, [V]: question, answer token by token, back, and what stands in its place."""
    found = []
    for question, answer, instead in conversations:
        forward(question, 0)
        for at, id in enumerate(answer):
            forward([id], len(question) + at)
        found.append(forward(instead, len(question)))
    return found


def check_rewind(
    found: Sequence[Tensor], logits: Callable[[list[int]], Tensor], conversations: Sequence[Again], step: float
) -> dict[str, Any]:
    """The logits after going back are those of the quantized net, which reads the same ids in one go.

    Args:
        found: of `read_again`.
        logits: the net's, after each id, [T, V].
        conversations: what was read.
        step: how much they may differ (`activation_step`).
    """
    apart = [difference(got_V, logits(each.ids)[-1]) for got_V, each in zip(found, conversations, strict=True)]
    return {
        "back": [len(each.answer) for each in conversations],
        "largest_difference": max(apart),
        "faults": [
            f"conversation {number}: {len(each.answer)} tokens back and {len(each.instead)} on, logits differ by "
            f"{far:.3g}, more than one activation step, {step:.3g}"
            for number, (each, far) in enumerate(zip(conversations, apart, strict=True))
            if far > step
        ],
    }


def difference(got: Tensor, wanted: Tensor) -> float:
    """The largest of any logit; infinite where one is no number."""
    largest = float((got - wanted).abs().max())
    return float("inf") if largest != largest else largest
