"""A model for `DummyEndpoint` that writes what our prompts ask for, and a short prompt for a small context.

A module of its own, so that workers can import it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, final

from dummy_endpoint import answer

from phi3kit.corpus.synthesis.wording import shown
from phi3kit.families import Prompt, Refusal, Seed
from phi3kit.records import Conversation, Document, Message

LETTERS = str.maketrans("0123456789", "ghijklmnop")


def words_of(text: str, n: int = 40) -> str:
    """Words that only this text leads to."""
    letters = "".join(sha256(f"{text} {i}".encode()).hexdigest() for i in range(n // 8)).translate(LETTERS)
    return " ".join(letters[i : i + 6] for i in range(0, 6 * n, 6))


def seed_in(prompt: str) -> str:
    """What a prompt of ours is about."""
    if "\n====\n" in prompt:
        return prompt.split("\n====\n")[1].removesuffix("\n====")
    return prompt.rpartition("The topic: ")[2]


def problem_of(seed: str) -> tuple[str, int]:
    """An exercise about a seed, and its answer."""
    n = int(sha256(seed.encode()).hexdigest()[:2], 16)
    return f"About {words_of(seed, 8)}: what is {n} and {n} more?", 2 * n


def solution(problem: str, result: int) -> str:
    """Solution and answer."""
    return f"Solution: {words_of(problem, 24)}; so both make it twice as many.\nAnswer: {result}"


def write(prompt: str, _: int = 0) -> tuple[int, Any]:
    """The answer to any of our prompts; the same prompt has the same answer."""
    seed = seed_in(prompt)
    if prompt.startswith("Solve this problem"):
        n = int(seed.split(" and ")[-1].split()[0])
        return 200, answer(solution(seed, 2 * n))
    if prompt.startswith("Pose one exercise"):
        problem, result = problem_of(seed)
        return 200, answer(f"Problem: {problem}\n{solution(problem, result)}")
    if "questions that" in prompt.splitlines()[0]:
        pairs = [f"Question: Why is {words_of(f'{seed}{i}', 8)} so?\nAnswer: {words_of(seed, 16)}." for i in range(3)]
        return 200, answer("\n\n".join(pairs))
    return 200, answer(f"Of {words_of(seed)}.")


@final
class AsItIs(Prompt):
    """Asks a topic as it is: a prompt that fits the context of a tiny net."""

    takes = frozenset({"topic"})

    @property
    def version(self) -> str:
        return "1"

    def message(self, seed: Seed) -> str:
        return shown(seed).removeprefix("The topic: ")

    def read(self, seed: Seed, answer: str) -> list[Document | Conversation] | Refusal:
        text = answer.strip()
        return [Conversation((Message("user", seed.text), Message("assistant", text)))] if text else Refusal("silent")
