"""Numbers and operators of a text, in order: where they are what a text teaches, others make another text of it."""

from __future__ import annotations

import re

TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[!+=<>^×÷±≤≥≠≈%&|*/·√−-]+")
IN_WORDS = frozenset("-−*/·")  # signs that prose and markup have too
CLOSING, OPENING = frozenset(")]}"), frozenset("([{\\$√")


def quantities_of(text: str) -> list[str]:
    """Numbers and operators, in order; a hyphen or a bullet is none."""
    return [m[0] for m in TOKEN.finditer(text) if m[0][0].isdigit() or _operates(text, *m.span())]


def pairs_of(text: str) -> list[str]:
    """Each number or operator with the one before it, so that another order is another text; [] without any."""
    found = quantities_of(text)
    return [f"{one} {two}" for one, two in zip(["", *found], [*found, ""], strict=True)] if found else []


def _operates(text: str, start: int, end: int) -> bool:
    """Whether a sign stands between operands, or makes a number negative."""
    if text[end - 1] == "!":
        return False
    weak = IN_WORDS.issuperset(text[start:end])
    if weak and text[end : end + 1].isdigit() and not text[max(0, start - 1) : start].isalnum():
        return True
    left, right = start - 1, end
    if text[left : left + 1] == " ":
        left -= 1
    if text[right : right + 1] == " ":
        right += 1
    if left < 0 or right >= len(text):
        return False
    before, after = text[left], text[right]
    if not (before in CLOSING or before.isalnum()) or not (after in OPENING or after.isalnum() or after in "+-−"):
        return False
    if not weak:
        return True
    return _stands_alone(text, left, -1) and _stands_alone(text, right, 1)


def _stands_alone(text: str, at: int, step: int) -> bool:
    """Whether a character is a digit, a bracket, or a letter that is no word's."""
    if not text[at].isalpha():
        return True
    beyond = at + step
    return not 0 <= beyond < len(text) or not text[beyond].isalnum()
