"""Scripts that put no spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan.

Without a dictionary of each language a word is not to be had, but pieces that are cut the same way wherever they stand
are, and serve for counting and for comparing: an ideograph or a sign of hiragana is a piece, a run of katakana another
(Unicode's default word boundaries, https://unicode.org/reports/tr29/#Default_Word_Boundaries); in the other scripts a
syllable, told by its letters. Three pieces are about two words. Text without such scripts is split as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

IDEOGRAPH = (
    "\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00016ff0-\U00018cff\U0001b170-\U0001b2ff"
    "\U00020000-\U0003ffff"
)
HIRAGANA, KATAKANA = "\u3041-\u3096\u309d-\u309f", "\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9f"
THAI, LAO = "\u0e01-\u0e4e", "\u0e81-\u0ece\u0edc-\u0edf"
KHMER, BURMESE = "\u1780-\u17d3\u17dc\u17dd", "\u1000-\u103f\u1050-\u109f"
TIBETAN = "\u0f40-\u0f84\u0f88-\u0fbc"
ALL = IDEOGRAPH + HIRAGANA + KATAKANA + THAI + LAO + KHMER + BURMESE + TIBETAN
SPACELESS = re.compile(f"[{ALL}]")
STACKED = "\u1039\u17d2"  # virama and coeng: the next consonant stands below this one
INITIAL = "\u1000-\u102a\u103f"  # of Burmese syllables
CLOSED = rf"[{INITIAL}](?=[\u1037\u1038]?[\u103a{STACKED}])"  # a consonant that ends one


def syllable(before: str, consonants: str, marks: str) -> str:
    """A pattern: a vowel written first, a consonant with its marks, and consonants without any; of Thai and Lao."""
    return rf"[{before}]?[{consonants}][{marks}]*(?:[{consonants}](?![{marks}]))*"


IN_THAI = syllable("\u0e40-\u0e44", "\u0e01-\u0e2f", "\u0e30-\u0e3a\u0e45-\u0e4e")
IN_LAO = syllable("\u0ec0-\u0ec4", "\u0e81-\u0eaf\u0edc-\u0edf", "\u0eb0-\u0ebd\u0ec6-\u0ece")
PIECE = re.compile(
    rf"""
      [{IDEOGRAPH}{HIRAGANA}][\u3099\u309a\ufe00-\ufe0f]*
    | [{KATAKANA}][{KATAKANA}\u3099\u309a]*
    | {IN_THAI} | {IN_LAO}
    | [{KHMER}](?:[{STACKED}].|(?![\u1780-\u17b3])[{KHMER}])*
    | [{BURMESE}](?:[{STACKED}].|{CLOSED}|(?![{INITIAL}])[{BURMESE}])*
    | [{TIBETAN}]+
    | [{ALL}]
    """,
    re.VERBOSE,
)
RUN = re.compile(rf"[{ALL}\u3099\u309a\ufe00-\ufe0f]+")


def pieces_of(chunk: str) -> Iterator[tuple[str, bool]]:
    """(piece, whether it is of such a script) of a chunk without white space, in order."""
    end = 0
    for run in RUN.finditer(chunk):
        if run.start() > end:
            yield chunk[end : run.start()], False
        yield from ((piece, True) for piece in PIECE.findall(run[0]))
        end = run.end()
    if end < len(chunk):
        yield chunk[end:], False


def is_spaced(text: str) -> bool:
    """Whether a text has none of such scripts."""
    return text.isascii() or not SPACELESS.search(text)


def spaced_words(text: str) -> list[str]:
    """Words between white space, punctuation and all; where a script has no spaces, its pieces."""
    chunks = text.split()
    if is_spaced(text):
        return chunks
    return [word for chunk in chunks for word in ([chunk] if is_spaced(chunk) else _with_marks(chunk))]


def _with_marks(chunk: str) -> list[str]:
    """Pieces of a chunk, each with the punctuation behind it."""
    words: list[str] = []
    for piece, spaceless in pieces_of(chunk):
        marks = "" if spaceless else piece[: next((i for i, c in enumerate(piece) if c.isalnum()), len(piece))]
        if words and marks:
            words[-1] += marks
            piece = piece[len(marks) :]
        if piece:
            words.append(piece)
    return words
