"""Scorers that count signs: so many of each kind per thousand characters, weighed and added up.

Each kind counts up to a limit, so that a table of numbers or a minified script is not the best of texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from phi3kit.corpus.scorers.state import content_version

SHORTEST = 300  # characters: one sign in a shorter text is not taken for a density
MOST = 12.0  # signs of one kind per thousand characters that count
MARKS = "’‘“”–—…•·«»\u00a0\u200b\u2009™®©°"  # no part of a word, and in most English pages
WORD_BYTES = bytes(b if b > 127 or chr(b).isalnum() or b == 95 else 32 for b in range(256))


class Sign(NamedTuple):
    """One kind of sign: how much each counts, how to count them, and what the version hashes of it."""

    weight: float
    count: Callable[[str], int]
    rule: str


def matches(weight: float, pattern: str, holds: str = "") -> Sign:
    """Signs that a regular expression finds; texts without any character of `holds` have none and are not searched."""
    find = re.compile(pattern, re.MULTILINE).findall

    def count(text: str) -> int:
        return len(find(text)) if not holds or any(map(text.__contains__, holds)) else 0

    return Sign(weight, count, pattern)


def density(text: str, signs: Mapping[str, Sign]) -> float:
    """Weighted signs per thousand characters; 0 for a text without letters or digits."""
    if not text.strip():
        return 0.0
    thousands = max(len(text), SHORTEST) / 1000
    return sum(sign.weight * min(sign.count(text) / thousands, MOST) for sign in signs.values())


def rules_version(name: str, aspect: str, signs: Mapping[str, Sign]) -> str:
    """Hash of the rules: another rule, weight or limit is another version."""
    rules = {kind: [sign.weight, sign.rule] for kind, sign in signs.items()}
    return content_version(name, {"aspect": aspect, "rules": rules, "shortest": SHORTEST, "most": MOST})


def words(text: str) -> list[bytes] | list[str]:
    r"""The runs of ``\w``; bytes where the text is ASCII but for usual marks, which is twice as fast."""
    if not text.isascii():
        for mark in MARKS:
            text = text.replace(mark, " ")
    return text.encode().translate(WORD_BYTES).split() if text.isascii() else re.findall(r"\w+", text)


def both(words: frozenset[str]) -> frozenset[str | bytes]:
    """Words as what `words` may give."""
    return frozenset([*words, *(word.encode() for word in words)])
