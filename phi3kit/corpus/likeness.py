"""Likeness: which candidates are copies, by the words they share, the runs they share, and their numbers.

Two texts are copies where they have enough of their words in common and some of their runs, and the same numbers and
operators where those count. Numbers that differ are allowed one in so many words: a sum or a word problem with another
number is another one, a chapter with another page number is not.

Legend: P pairs of documents, D different documents among them, S hashes of a sketch, H hashes of runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy

from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.sketches import EMPTY, shared_by_pair

AT_ONCE = 2**12  # pairs compared at once: about 40 MB
SAME_NUMBERS = 0.8  # share of the pairs of numbers and operators: of ten or more, one may differ
WORDS_A_NUMBER = 50  # that differs
CHANGED = 4  # pairs that differ, in both texts together, where one number does


class Signatures(Protocol):
    """Of a shard's documents, by row."""

    sketches: numpy.ndarray
    hashes: numpy.ndarray
    quantities: numpy.ndarray
    sizes: numpy.ndarray


class Likeness:
    """Compares documents of shards.

    Args:
        shards: their signatures.
        starts: number of each shard's first document, and of all documents.
        minhash: what the signatures were written with.
    """

    def __init__(self, shards: Sequence[Signatures], starts: numpy.ndarray, minhash: MinHash) -> None:
        self.shards, self.starts, self.minhash = shards, starts, minhash

    def of(self, one_P: numpy.ndarray, two_P: numpy.ndarray) -> numpy.ndarray:
        """Whether the documents of each pair are copies, bool [P]."""
        like_P = numpy.ones(len(one_P), bool)
        for start in range(0, len(one_P), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            like_P[part] = self._like(one_P[part], two_P[part])
        return like_P

    def _like(self, one_P: numpy.ndarray, two_P: numpy.ndarray) -> numpy.ndarray:
        documents_D, place_2P = numpy.unique(numpy.concatenate([one_P, two_P]), return_inverse=True)
        one_P, two_P = place_2P[: len(one_P)], place_2P[len(one_P) :]
        like_P = self._same_numbers(documents_D, one_P, two_P)
        if self.minhash.edited is None:
            return like_P
        hashes_DH = self._rows("hashes", documents_D)
        like_P &= (hashes_DH[one_P] == hashes_DH[two_P]).mean(axis=1) >= self.minhash.runs
        sketches_DS = self._rows("sketches", documents_D)
        left = numpy.flatnonzero(like_P)
        like_P[left] = shared_by_pair(sketches_DS[one_P[left]], sketches_DS[two_P[left]]) >= self.minhash.edited
        return like_P

    def _same_numbers(self, documents_D: numpy.ndarray, one_P: numpy.ndarray, two_P: numpy.ndarray) -> numpy.ndarray:
        """Whether each pair's numbers and operators are the same, but for a few in a long text."""
        sizes_D2 = self._rows("sizes", documents_D)
        count_P = (sizes_D2[one_P, 1] > 0) & (sizes_D2[two_P, 1] > 0)
        same_P = ~count_P
        if not count_P.any():
            return same_P
        at = numpy.flatnonzero(count_P)
        sketches_DS = self._rows("quantities", documents_D)
        one_AS, two_AS = sketches_DS[one_P[at]], sketches_DS[two_P[at]]
        share_A = shared_by_pair(one_AS, two_AS)
        total_A = (one_AS != EMPTY).sum(axis=1) + (two_AS != EMPTY).sum(axis=1)
        words_A = numpy.minimum(sizes_D2[one_P[at], 0], sizes_D2[two_P[at], 0])
        different_A = (1 - share_A) * total_A / CHANGED
        same_P[at] = (different_A <= words_A // WORDS_A_NUMBER) | (share_A >= SAME_NUMBERS)
        return same_P

    def _rows(self, name: str, documents_D: numpy.ndarray) -> numpy.ndarray:
        """A table's rows of some documents, in ascending order of their numbers."""
        shards_D = numpy.searchsorted(self.starts, documents_D, side="right") - 1
        found = [
            getattr(self.shards[shard], name)[documents_D[shards_D == shard] - self.starts[shard]]
            for shard in numpy.unique(shards_D)
        ]
        return numpy.concatenate(found)
