"""Held-out passages that the training texts repeat: they are left out, of every arm alike.

A passage counts as repeated where it shares a run of words with any training text; 13 words, as GPT-3's report looks
for its benchmarks (arXiv 2005.14165, appendix C). The passages' runs are kept in memory, the training texts pass by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

WORD = re.compile(r"\w+")


def runs(text: str, words: int) -> Iterator[int]:
    """Hashes of every run of so many words; upper case and what stands between words do not count."""
    found = WORD.findall(text.lower())
    for start in range(len(found) - words + 1):
        yield hash(tuple(found[start : start + words]))


def repeated(passages: Sequence[str], training: Iterable[str], words: int) -> set[int]:
    """Numbers of the passages that share a run of words with any of the training texts."""
    holders: dict[int, list[int]] = {}
    for number, passage in enumerate(passages):
        for run in set(runs(passage, words)):
            holders.setdefault(run, []).append(number)
    return {number for text in training for run in runs(text, words) for number in holders.get(run, ())}
