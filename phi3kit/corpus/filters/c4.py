"""C4's rules: which lines of a page are sentences, and which pages have enough of them.

`C4Quality` judges a page by the lines that C4 would keep; `C4Lines` keeps only those. datatrove's C4QualityFilter
does both at once; here the verdict stays pure and the rewriting is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple, final

from phi3kit.corpus.filters.cleaned import cleaned
from phi3kit.corpus.spaceless import spaced_words
from phi3kit.corpus.words import count_sentences
from phi3kit.families import Cleaner, Filter
from phi3kit.records import Document

# The rules are those of section 2.2 of the T5 paper (https://jmlr.org/papers/volume21/20-074/20-074.pdf) and of its
# published code (https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets/text/c4_utils.py).
ENDS = (".", "?", "!", '"', "'", *"。！？｡．؟۔।॥։።፧។」』")  # the latter of languages that C4 does not have
CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
POLICIES = re.compile("terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies")


class Scan(NamedTuple):
    """What C4's rules say about a page: why it goes, or the lines that stay; lines and citations taken out."""

    reason: str | None
    lines: tuple[str, ...]
    removed: dict[str, int]


@lru_cache(4)  # the filter and the cleaner look at the same page
def scan(text: str, terminal_punctuation: bool, least_words: int, longest_word: int) -> Scan:
    """Apply the rules line by line; a page that goes has no lines."""
    kept: list[str] = []
    removed: Counter[str] = Counter()
    for line in text.splitlines():
        line = line.strip()
        if not line and (terminal_punctuation or least_words > 0):
            continue
        words = spaced_words(line)
        if len(line) > longest_word and max(map(len, words)) > longest_word:
            removed["lines with a word too long"] += 1
            continue
        if "[" in line:
            line, n = CITATION.subn("", line)
            removed["citations"] += n
        if terminal_punctuation and (not line.endswith(ENDS) or line.endswith("...")):
            removed["lines without an end"] += 1
            continue
        if len(words) < least_words:
            removed["lines of few words"] += 1
            continue
        lower = line.lower()
        if "lorem ipsum" in lower:
            return Scan("lorem ipsum", (), {})
        if "javascript" in lower:
            removed["lines on JavaScript"] += 1
            continue
        if "{" in line:
            return Scan("curly bracket", (), {})
        if POLICIES.search(lower):
            removed["lines on policies"] += 1
            continue
        kept.append(line)
    return Scan(None, tuple(kept), dict(+removed))


@final
class C4Quality(Filter):
    """Rejects pages with lorem ipsum, curly brackets, or too few sentences in the lines that C4 would keep.

    Verdicts equal datatrove's C4QualityFilter with the same words.

    Args:
        terminal_punctuation: count only lines that end like a sentence; FineWeb does without this rule.
        least_words: shorter lines do not count, in words between white space.
        longest_word: lines with longer words do not count, in characters.
        least_sentences: in the lines that count.
    """

    def __init__(
        self,
        terminal_punctuation: bool = True,
        least_words: int = 3,
        longest_word: int = 1000,
        least_sentences: int = 5,
    ) -> None:
        self.rules = (terminal_punctuation, least_words, longest_word)
        self.least_sentences = least_sentences

    def reject(self, document: Document) -> str | None:
        """The rule the page breaks, or None."""
        found = scan(document.text, *self.rules)
        if found.reason:
            return found.reason
        n = 0
        for line in found.lines:
            n += count_sentences(line, self.least_sentences - n)
            if n >= self.least_sentences:
                return None
        return f"fewer than {self.least_sentences} sentences"


@final
class C4Lines(Cleaner):
    """Keeps the lines of a page that are sentences, without citations; what `C4Quality` rejects it leaves as it is.

    Args:
        terminal_punctuation: keep only lines that end like a sentence; FineWeb does without this rule.
        least_words: shorter lines go, in words between white space.
        longest_word: lines with longer words go, in characters.
    """

    def __init__(self, terminal_punctuation: bool = True, least_words: int = 3, longest_word: int = 1000) -> None:
        self.rules = (terminal_punctuation, least_words, longest_word)

    def clean(self, document: Document) -> Document:
        """The document with the lines kept."""
        found = scan(document.text, *self.rules)
        if found.reason:
            return document
        return cleaned(document, "\n".join(found.lines).strip(), found.removed or {"white space": 1})


@final
class C4Paragraphs(Filter):
    """Rejects pages with few long lines (mC4's rule, arXiv 2010.11934, section 3.1).

    Args:
        least: how many lines must be long.
        shortest: a long line, in characters.
    """

    def __init__(self, least: int = 3, shortest: int = 200) -> None:
        self.least, self.shortest = least, shortest

    def reject(self, document: Document) -> str | None:
        """Why not, or None."""
        n = sum(len(line) >= self.shortest for line in document.text.split("\n"))
        return f"fewer than {self.least} paragraphs" if n < self.least else None
