"""The contracts catch prompts that break their family's laws, and say which law."""

from __future__ import annotations

import itertools
from typing import final

import pytest
from writing_model import AsItIs

from phi3kit.corpus.synthesis import Exercises, QuestionsAndAnswers, Rephrase, TextbookSection
from phi3kit.families import Prompt, Refusal
from phi3kit.records import Conversation, Document, Message
from phi3kit.testing import contracts

COUNT = itertools.count()


class Bad(Prompt):
    """A prompt with one thing done wrong; not final, on purpose."""

    @property
    def version(self):
        return "1"

    def message(self, seed):
        return f"Write about {seed.text}"

    def read(self, seed, answer):
        return [Document("", answer)] if answer.strip() else Refusal("empty")


@final
class Forgets(Bad):
    def message(self, seed):
        return "Write."


@final
class Numbers(Bad):
    def message(self, seed):
        return f"{next(COUNT)}: {seed.text}"


@final
class Ages(Bad):
    @property
    def version(self):
        return str(next(COUNT))


@final
class TakesNothing(Bad):
    takes = frozenset()


@final
class TakesAll(Bad):
    def read(self, seed, answer):
        return [Document("", answer)]


@final
class Rambles(Bad):
    def read(self, seed, answer):
        return Refusal(f"it was not good enough for us because it said {answer} and more of that kind" * 2)


@final
class Swallows(Bad):
    def read(self, seed, answer):
        return [] if answer.strip() else Refusal("empty")


@final
class Mute(Bad):
    def read(self, seed, answer):
        return [Conversation((Message("user", answer), Message("assistant", " ")))] if answer.strip() else Refusal("no")


@final
class Wavers(Bad):
    def read(self, seed, answer):
        return [Document("", f"{answer}{next(COUNT)}")]


@final
class HoldsOn(Bad):
    def __init__(self):
        self.way = lambda text: text


@pytest.mark.parametrize(
    ("component", "law"),
    [
        (Forgets, "text of a seed is in its message"),
        (Numbers, "asked about in the same way"),
        (Ages, "same wording is the same version"),
        (TakesNothing, "takes topics, passages or problems"),
        (TakesAll, "empty answer is refused"),
        (Rambles, "one short line"),
        (Swallows, "holds nothing is refused"),
        (Mute, "with text"),
        (Wavers, "read in the same way"),
    ],
)
def test_lawless_prompt(component, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(component)


def test_a_prompt_that_cannot_travel():
    with pytest.raises((AttributeError, TypeError), match=r"lambda|pickle"):
        contracts.check(HoldsOn)


WORKED = f"Problem: What is six times seven?\nSolution: {'step ' * 20}\nAnswer: 42"
PAIR = "Question: Why does ice float?\nAnswer: It is lighter than water, since its lattice is wide."


@pytest.mark.parametrize(
    ("component", "good"),
    [
        (TextbookSection, "word " * 120),
        (Rephrase, "word " * 20),
        (QuestionsAndAnswers, f"{PAIR}\n\n{PAIR}"),
        (AsItIs, "Well."),
        (Exercises, None),
    ],
)
def test_lawful_prompt(component, good):
    contracts.check_prompt(component, [good] if good else [])


def test_a_good_answer_that_is_refused_is_noticed():
    with pytest.raises(contracts.LawBroken, match="a good answer is read"):
        contracts.check_prompt(TextbookSection, ["too short"])
    with pytest.raises(contracts.LawBroken, match="a good answer is read"):
        contracts.check_prompt(Exercises, [WORKED])  # one of the seeds is known to come to 4
