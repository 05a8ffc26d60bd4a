"""The final answer of a worked solution, such that equal answers are equal: 1,000 is 1000.0, and 2/4 is 0.5."""

from __future__ import annotations

import re
from fractions import Fraction

# whole numbers with or without commas, decimals, and fractions; a minus that is no dash between two numbers
NUMBER = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.?\d+)?(?:/\d+)?(?![\w/]|[.,]\d)")
LINE = re.compile(r"^[\s*#_]*Answer[*_]*\s*[:=][*_]*\s*(.*?)[\s*_]*$|^####\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)


def final_answer(solution: str) -> str | None:
    """What the last line ``Answer: ...`` (or GSM8K's ``#### ...``) says, as `plain` has it; None without one."""
    found = list(LINE.finditer(solution))
    return plain(found[-1][1] or found[-1][2] or "") if found else None


def plain(answer: str) -> str | None:
    """An answer's one number, as a fraction in lowest terms (a percentage keeps its sign); else its words.

    "$1,000.00", "1000 apples" and "1000" are one answer; "3 and 4" is none of its numbers. None where nothing is said.
    """
    text = re.sub(r"\\boxed\{(.*)\}", r"\1", answer).replace("\u2212", "-").replace("$", "")
    text = re.sub(r"\s*/\s*", "/", text).strip()
    numbers = [found[0] for found in NUMBER.finditer(text) if re.search(r"\d", found[0])]
    if len(numbers) == 1:
        try:
            value = _fraction(numbers[0])
        except ZeroDivisionError:
            return None
        return f"{value}%" if "%" in text else str(value)
    return " ".join(text.casefold().rstrip(".!").split()) or None


def _fraction(number: str) -> Fraction:
    above, _, below = number.replace(",", "").partition("/")
    return Fraction(above) / Fraction(below or 1)
