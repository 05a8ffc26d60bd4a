"""Files that are code by name only: data, minified scripts, what a machine wrote."""

from __future__ import annotations

from typing import final

from phi3kit.families import Filter
from phi3kit.records import Document


@final
class SourceCode(Filter):
    """Keeps source files that people wrote (StarCoder, arXiv 2305.06161, section 3.1; Codex, 2107.03374, section 3.1).

    Args:
        longest_line: in characters.
        longest_mean: mean length of the lines, in characters.
        least_letters: share of the characters that are letters or digits.
    """

    def __init__(self, longest_line: int = 1000, longest_mean: float = 100, least_letters: float = 0.25) -> None:
        self.longest_line, self.longest_mean, self.least_letters = longest_line, longest_mean, least_letters

    def reject(self, document: Document) -> str | None:
        """Why it is no source code, or None."""
        lengths = [len(line) for line in document.text.splitlines()] or [0]
        if max(lengths) > self.longest_line:
            return f"a line longer than {self.longest_line} characters"
        if sum(lengths) / len(lengths) > self.longest_mean:
            return f"lines longer than {self.longest_mean:g} characters on average"
        letters = sum(map(str.isalnum, document.text))
        return "few letters and digits" if letters < self.least_letters * len(document.text) else None
