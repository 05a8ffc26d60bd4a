"""Questions and answers: short conversations about a topic or a passage, that can be understood without it."""

from __future__ import annotations

import re
from typing import final

from phi3kit.corpus.synthesis.wording import TO_THE_ASKER, shown, version_of
from phi3kit.errors import UserError
from phi3kit.families import Prompt, Refusal, Seed
from phi3kit.records import Conversation, Document, Message

ASKED = """Write {pairs} questions that {audience} might ask about {about}, each with its answer.

Ask for reasons, connections and how things work rather than for names and dates. A question must make sense to \
someone who has not seen what follows, so never speak of "the passage" or "the text". An answer is right, \
complete, and says how one comes to it. Write every pair in this form and nothing else:

Question: ...
Answer: ...

{shown}"""
PAIR = re.compile(r"\s*(?P<question>.+?)\n[\s*#_]*Answer[*_]*:[*_]*\s*(?P<answer>.+)", re.DOTALL)
START = re.compile(r"^[ \t*#_\d.)]*Question(?: \d+)?[*_]*:[*_]*", re.MULTILINE)
UNSEEN = re.compile(r"\b(the|this) (passage|text|topic)\b", re.IGNORECASE)


@final
class QuestionsAndAnswers(Prompt):
    """Conversations of one question and one answer each.

    Args:
        pairs: how many to ask for at a time.
        audience: who asks.
    """

    takes = frozenset({"topic", "passage"})

    def __init__(self, pairs: int = 3, audience: str = "a curious student") -> None:
        if pairs < 1:
            raise UserError(f"pairs is {pairs}; ask for at least 1")
        self.pairs, self.audience = pairs, audience

    @property
    def version(self) -> str:
        """Hash of the wording and the options."""
        return version_of(ASKED, self.pairs, self.audience)

    def message(self, seed: Seed) -> str:
        """What is asked about a topic or a passage."""
        about = "the topic below" if seed.kind == "topic" else "the subject of the passage below"
        return ASKED.format(pairs=self.pairs, audience=self.audience, about=about, shown=shown(seed))

    def read(self, seed: Seed, answer: str) -> list[Document | Conversation] | Refusal:
        """A conversation per pair; all of them or none."""
        if TO_THE_ASKER.match(answer):
            return Refusal("speaks to whoever asked")
        before, *blocks = START.split(answer)
        if not blocks or before.strip():
            return Refusal("no list of questions")
        made: list[Document | Conversation] = []
        for block in blocks:
            found = PAIR.fullmatch(block)
            if found is None:
                return Refusal("a question without an answer")
            question, reply = found["question"].strip(" \n*_"), found["answer"].strip()
            if not question or not reply:
                return Refusal("a question without an answer")
            if UNSEEN.search(question):
                return Refusal("a question about what one cannot see")
            made.append(Conversation((Message("user", question), Message("assistant", reply))))
        return made
