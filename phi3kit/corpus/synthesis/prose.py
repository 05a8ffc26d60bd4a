"""Prose: sections of a textbook, and passages told anew.

Sections written for one reader about one subject are what phi-1 and its heirs learned from ("Textbooks Are All You
Need", arXiv 2306.11644, section 2.2); telling a text anew is WRAP's way (arXiv 2401.16380). The wording is ours.
"""

from __future__ import annotations

from typing import final

from phi3kit.corpus.synthesis.wording import prose, shown, version_of
from phi3kit.families import Prompt, Refusal, Seed
from phi3kit.records import Conversation, Document

SECTION = """Write one section of a textbook for {audience}, of about {words} words, {about}.

Begin with why the matter is worth knowing. Introduce each term before you use it, lead from one idea to the \
next, give the reason for whatever you claim, and work through at least one small example step by step. End with \
what follows from it. Write connected prose; name no names and dates that a reader could just look up. Write the \
section alone: no title, no greeting, nothing about yourself or this request.

{shown}"""
ANEW = """Tell the passage below anew, as {style}.

Keep everything that can be learned from it, with its reasons and its order of thought, and add no fact that it \
does not hold. Use sentences of your own. Leave out what is not about its subject: advertisements, navigation, \
contacts, dates of publication. Write the new text alone: no title, no greeting, nothing about yourself, this \
request or the passage.

{shown}"""


@final
class TextbookSection(Prompt):
    """A section of a textbook: on a topic, or on what a passage is about.

    Args:
        audience: who it is for.
        words: about how long it is to be.
        least_words: shorter ones are refused.
    """

    takes = frozenset({"topic", "passage"})

    def __init__(
        self, audience: str = "a student who meets the subject for the first time", words: int = 500,
        least_words: int = 100,
    ) -> None:  # fmt: skip
        self.audience, self.words, self.least_words = audience, words, least_words

    @property
    def version(self) -> str:
        """Hash of the wording and the options."""
        return version_of(SECTION, self.audience, self.words, self.least_words)

    def message(self, seed: Seed) -> str:
        """What is asked about a topic or a passage."""
        about = "on the topic below" if seed.kind == "topic" else "that teaches the subject of the passage below"
        return SECTION.format(audience=self.audience, words=self.words, about=about, shown=shown(seed))

    def read(self, seed: Seed, answer: str) -> list[Document | Conversation] | Refusal:
        """The section."""
        text = prose(answer, self.least_words)
        return text if isinstance(text, Refusal) else [Document("", text)]


@final
class Rephrase(Prompt):
    """A passage in other words.

    Args:
        style: what the new text is to be like.
        least_share: refuse one with fewer than this share of the passage's words.
    """

    takes = frozenset({"passage"})

    def __init__(self, style: str = "clear and plain prose from a good textbook", least_share: float = 0.2) -> None:
        self.style, self.least_share = style, least_share

    @property
    def version(self) -> str:
        """Hash of the wording and the options."""
        return version_of(ANEW, self.style, self.least_share)

    def message(self, seed: Seed) -> str:
        """What is asked about a passage."""
        return ANEW.format(style=self.style, shown=shown(seed))

    def read(self, seed: Seed, answer: str) -> list[Document | Conversation] | Refusal:
        """The new text."""
        text = prose(answer, 1)
        if isinstance(text, Refusal):
            return text
        words, before = text.split(), seed.text.split()
        if words == before:
            return Refusal("the passage as it was")
        if len(words) < self.least_share * len(before):
            return Refusal(f"under {self.least_share:g} of the passage's words")
        return [Document("", text)]
