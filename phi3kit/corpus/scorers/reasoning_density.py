"""How much a text reasons: connectives, steps, equations and code. Needs no labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import final

from phi3kit.corpus.scorers.density import Sign, both, density, lower_words, matches, rules_version
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
PHRASES = re.compile(r"\b(?:so that|for instance|e\.g|i\.e)\b|>>>", re.IGNORECASE)
_EITHER = both(CONNECTIVES)


def count_connectives(text: str) -> int:
    """How often a text uses one of `CONNECTIVES` or `PHRASES`."""
    return sum(map(_EITHER.__contains__, lower_words(text))) + len(PHRASES.findall(text))


SIGNS = {
    "connectives": Sign(1.0, count_connectives, f"{sorted(CONNECTIVES)} {PHRASES.pattern}"),
    "steps": matches(
        2.0,
        r"^\s*(?:[Ss]tep|[Ee]xercise|[Ee]xample|[Pp]roblem|[Ss]olution|[Pp]roof|[Tt]heorem|[Ll]emma|[Aa]nswer|Q|A)\b"
        r"\s*\d*\s*[.:)]|^\s*\(?(?:\d{1,2}|[a-e])[.)]\s+\S",
    ),
    "equations": matches(
        2.0, r"[\w)}\]$]\s?(?:=|==|≈|≤|≥|≠|<=|>=|\\leq|\\geq|\\approx)\s?[\w({\\$+−-]|\\frac|\\sum|\\int"
    ),
    "code": matches(
        1.0, r"^\s*(?:def|class|return|for|while|if|elif|else|import|from|print|let|const|var)\b.*[:;)\w]$"
    ),
}


@final
class ReasoningDensity(Scorer):
    """Signs of reasoning per thousand characters: a page of the web has about 5, a worked problem 20 and more.

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
