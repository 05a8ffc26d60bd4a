"""A vote: a problem is solved many times over, and its answer counts if most solutions come to it.

Self-consistency (Wang et al., arXiv 2203.11171): of several sampled solutions, the answer of the most is right more
often than that of one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import final

from phi3kit.corpus.synthesis.exercises import ANSWER, PROBLEM, to_solve
from phi3kit.corpus.synthesis.final_answers import final_answer
from phi3kit.errors import UserError
from phi3kit.families import Refusal
from phi3kit.records import Conversation, Document


@final
class MajorityVote:
    """Keeps an exercise only if more than half of some solutions of its problem come to the answer it states.

    Args:
        samples: how many solutions are asked for, apart from the exercise's own.
        temperature: of their sampling; at 0 they would all be one.
    """

    def __init__(self, samples: int = 5, temperature: float = 0.7) -> None:
        if samples < 2:
            raise UserError(f"a vote of {samples} samples is none; give at least 2, best an odd number")
        if temperature <= 0:
            raise UserError(f"the temperature of a vote is {temperature:g}; above 0, or all solutions are the same")
        self.samples, self.temperature = samples, temperature

    async def judge(self, made: Document | Conversation, solve: Callable[[str, int], Awaitable[str]]) -> Refusal | None:
        """Why an exercise is not to be kept, or None.

        Args:
            made: an exercise, with its problem and answer as metadata. Raises `UserError` for anything else.
            solve: (message, number of the sample) -> a solution.
        """
        if ANSWER not in made.metadata:
            raise UserError("a vote needs exercises with a final answer; leave `vote` out with this prompt")
        message = to_solve(made.metadata[PROBLEM])
        solutions = await asyncio.gather(*(solve(message, sample) for sample in range(self.samples)))
        answers = Counter(map(final_answer, solutions))
        winner, votes = max(answers.items(), key=lambda item: item[1])
        if winner is None or 2 * votes <= self.samples:
            return Refusal("no majority for an answer")
        return None if winner == made.metadata[ANSWER] else Refusal("the majority has another answer")
