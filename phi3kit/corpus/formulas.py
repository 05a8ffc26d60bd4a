"""Questions that are formulas ("25-759="): without their signs, which punctuation is too, nothing of them is left.

They are compared sign by sign, white space, case and typography aside, and not as part of a longer number. Other
punctuation is another question: "25+759=" is none of "25-759=".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from phi3kit.corpus.benchmark_files import Question
from phi3kit.corpus.windows import Windows, common, sums_of

WHOLE, CUT, SHARE = 6, 14, 0.57  # signs of a whole one, and of one cut off after so much of it
FORMULA = re.compile(r"[\d\s.,]*[-+*/×÷=^<>()\[\]%?:]+[^A-Za-z]*")
SPACE = re.compile(r"\s+")
TYPOGRAPHY = str.maketrans("−–—‐‑×·∙⋅÷[]{}", "-----****/()()")  # as the same sign written another way


class Formulas:
    """The formulas among some questions, indexed.

    Args:
        questions: of which those that are no formulas are left alone.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        signs = {i: signs_of(q.text) for i, q in enumerate(questions) if FORMULA.fullmatch(q.text)}
        self._signs = {i: text for i, text in signs.items() if len(text) >= WHOLE}
        self._starts = Windows(WHOLE, [text[:WHOLE] for text in self._signs.values()], list(self._signs))

    def tells(self, number: int) -> bool:
        """Whether a question is a formula that can be found."""
        return number in self._signs

    def found(self, text: str) -> Iterator[tuple[int, str, float]]:
        """(number of the question, the signs in the text, share of the question) for every formula in a text."""
        if not self._signs:
            return
        page = signs_of(text)
        for at, _, number in self._starts.found(page, sums_of(page)):
            formula = self._signs[number]
            n = common(page, at, formula, 0)
            begins = not (at and page[at - 1].isdigit() and formula[0].isdigit())
            if begins and (n == len(formula) or n >= max(CUT, math.ceil(SHARE * len(formula)))):
                yield number, page[at : at + n], n / len(formula)


def signs_of(text: str) -> str:
    """A text without white space, in lower case, with the plainest signs."""
    return SPACE.sub("", text.casefold()).translate(TYPOGRAPHY)
