"""How much a text reasons: connectives, steps, equations and code. Needs no labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import final

from phi3kit.corpus.scorers.density import Sign, both, density, matches, rules_version, words
from phi3kit.corpus.scorers.state import read_options, write_state
from phi3kit.families import Scorer

# The words with which people reason and teach, and Python's prompt, which begins a worked example.
CONNECTIVES = frozenset(
    re.findall(
        r"\w+",
        "because therefore thus hence since if then else unless whether when otherwise instead although however "
        "example mean means return returns raise raises equal must should given suppose note",
    )
)
PHRASES = ("so that", "for instance", "e.g", "i.e", ">>>")
_PHRASE = re.compile(r"\b(?:so that|for instance|e\.g|i\.e)\b|>>>")
_EITHER = both(CONNECTIVES)


def count_connectives(text: str) -> int:
    """How often a text uses one of `CONNECTIVES` or `PHRASES`."""
    text = text.lower()
    n_phrases = len(_PHRASE.findall(text)) if any(map(text.__contains__, PHRASES)) else 0
    return sum(map(_EITHER.__contains__, words(text))) + n_phrases


SIGNS = {
    "connectives": Sign(1.0, count_connectives, f"{sorted(CONNECTIVES)} {_PHRASE.pattern}"),
    "steps": matches(
        2.0,
        r"^\s*(?:[Ss]tep|[Ee]xercise|[Ee]xample|[Pp]roblem|[Ss]olution|[Pp]roof|[Tt]heorem|[Ll]emma|[Aa]nswer|Q|A)\b"
        r"\s*\d*\s*[.:)]|^\s*\(?(?:\d{1,2}|[a-e])[.)]\s+\S",
    ),
    "equations": matches(
        2.0,
        r"[\w)}\]$]\s?(?:=|==|≈|≤|≥|≠|<=|>=|\\leq|\\geq|\\approx)\s?[\w({\\$+−-]|\\frac|\\sum|\\int",
        holds="=≈≤≥≠\\",
    ),
    "code": matches(
        1.0, r"^\s*(?:def|class|return|for|while|if|elif|else|import|from|print|let|const|var)\b.*[:;)\w]$"
    ),
}


@final
class ReasoningDensity(Scorer):
    """Signs of reasoning per thousand characters: a page of the web has about 1, a textbook 4, a worked problem 19.

    Tales have as many as textbooks (then, when, if): it tells how a text argues, not what it is about.

    Args:
        aspect: the name of its score.
    """

    learns = False

    def __init__(self, aspect: str = "reasoning") -> None:
        self._aspect = aspect

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """Hash of the rules."""
        return rules_version("ReasoningDensity", self._aspect, SIGNS)

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        """Nothing to learn."""

    def score(self, texts: Sequence[str]) -> list[float]:
        """A density per text; 0 for an empty one."""
        return [density(text, SIGNS) for text in texts]

    def save(self, folder: Path) -> None:
        """Write the options."""
        write_state(folder, {"aspect": self._aspect})

    @classmethod
    def load(cls, folder: Path) -> ReasoningDensity:
        """Read what `save` wrote."""
        return cls(**read_options(folder))
