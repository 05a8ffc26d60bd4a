"""Exercises with worked solutions, whose final answer can be checked.

phi-1 learned from exercises as well as from textbooks (arXiv 2306.11644, section 2.3). A seed that is a problem with a
known answer, as in GSM8K (arXiv 2110.14168: the answer ends with ``#### 42``), is solved, and the answers must agree.
"""

from __future__ import annotations

import re
from typing import final

from phi3kit.corpus.synthesis.final_answers import final_answer
from phi3kit.corpus.synthesis.wording import TO_THE_ASKER, shown, version_of
from phi3kit.families import Prompt, Refusal, Seed
from phi3kit.records import Conversation, Document

POSED = """Pose one exercise for {audience} on {about}, and solve it.

It should need several steps of thought and have one short final answer, best a number. State everything that is \
needed to solve it; it must make sense to someone who sees nothing else. Write exactly this form, and nothing \
before or after it:

Problem: the problem
Solution: the solution, step by step, each step with its reason
Answer: the final answer alone

{shown}"""
SOLVED = """Solve this problem step by step, and give the reason for each step. Write exactly this form, and \
nothing before or after it:

Solution: the steps
Answer: the final answer alone, best a number

{shown}"""
HEAD = r"[ \t*#_]*{}[*_]*:[*_]*"
WORKED = re.compile(
    rf"\s*(?:{HEAD.format('Problem')}(?P<problem>.+?)\n)?{HEAD.format('Solution')}(?P<solution>.+?)"
    rf"\n{HEAD.format('Answer')}[ \t]*(?P<answer>[^\n]+?)[\s*_]*",
    re.DOTALL | re.IGNORECASE,
)
PROBLEM, ANSWER = "problem", "answer"  # metadata keys: what a vote asks again, and what it must agree with


@final
class Exercises(Prompt):
    """One exercise with its worked solution: on a topic, on what a passage is about, or a given problem, solved.

    Args:
        audience: who it is for.
        least_words: shorter solutions are refused.
    """

    takes = frozenset({"topic", "passage", "problem"})

    def __init__(self, audience: str = "a student who wants to understand", least_words: int = 15) -> None:
        self.audience, self.least_words = audience, least_words

    @property
    def version(self) -> str:
        """Hash of the wording and the options."""
        return version_of(POSED, SOLVED, self.audience, self.least_words)

    def message(self, seed: Seed) -> str:
        """What is asked about a topic, a passage or a problem."""
        if seed.kind == "problem":
            return to_solve(seed.text)
        about = "the topic below" if seed.kind == "topic" else "the subject of the passage below"
        return POSED.format(audience=self.audience, about=about, shown=shown(seed))

    def read(self, seed: Seed, answer: str) -> list[Document | Conversation] | Refusal:
        """The exercise; of a problem whose answer is known, only if it comes to that answer."""
        if TO_THE_ASKER.match(answer):
            return Refusal("speaks to whoever asked")
        found = WORKED.fullmatch(answer)
        problem = seed.text.strip() if seed.kind == "problem" else ((found and found["problem"]) or "").strip(" \n*_")
        if found is None or not problem:
            return Refusal("not of the form asked for")
        solution, stated = found["solution"].strip(), final_answer(f"Answer: {found['answer']}")
        if stated is None:
            return Refusal("no final answer")
        if len(solution.split()) < self.least_words:
            return Refusal(f"a solution of under {self.least_words} words")
        if seed.gold and stated != final_answer(f"Answer: {seed.gold}"):
            return Refusal("another answer than the seed's")
        text = f"Problem: {problem}\n\nSolution: {solution}\n\nAnswer: {found['answer']}"
        return [Document("", text, metadata={PROBLEM: problem, ANSWER: stated})]


def to_solve(problem: str) -> str:
    """What is asked about a problem alone: for a solution, or for a vote on its answer."""
    return SOLVED.format(shown=shown(Seed("", problem, "problem")))
