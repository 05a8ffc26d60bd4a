"""Sketches: the smallest hashes of a bag of things, by which two bags are compared without either at hand.

Legend: P pairs of bags, S hashes of a sketch; EMPTY fills those of small bags.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy

SKETCH = 256  # words that a sketch holds
EMPTY = numpy.uint32(2**32 - 1)


def sketch_of(words: Sequence[str], size: int = SKETCH) -> numpy.ndarray:
    """The smallest hashes of a bag of words: a word that occurs again counts as another word."""
    from xxhash import xxh32_intdigest

    counts = Counter(words)
    hashes = numpy.fromiter(map(xxh32_intdigest, counts), numpy.uint64, len(counts))
    times = numpy.fromiter(counts.values(), numpy.uint64, len(counts))
    copies = numpy.repeat(hashes, times.astype(numpy.int64))
    order = numpy.arange(len(copies), dtype=numpy.uint64) - numpy.repeat(
        numpy.cumsum(times) - times, times.astype(numpy.int64)
    )
    return numpy.sort(mixed(copies + (order << numpy.uint64(32))).astype(numpy.uint32))[:size]


def mixed(x: numpy.ndarray) -> numpy.ndarray:
    """uint64 -> uint64, every bit depending on every other (splitmix64, https://prng.di.unimi.it/splitmix64.c)."""
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return x ^ (x >> numpy.uint64(31))


def padded(sketch: numpy.ndarray, size: int = SKETCH) -> numpy.ndarray:
    """A sketch of a fixed length."""
    return numpy.pad(sketch, (0, size - len(sketch)), constant_values=EMPTY)


def shared(one: numpy.ndarray, two: numpy.ndarray) -> float:
    """Share of the words of two documents that both have, estimated from their sketches: 2 |both| / (|one| + |two|)."""
    return float(shared_by_pair(padded(one)[None], padded(two)[None])[0])


def shared_by_pair(one_PS: numpy.ndarray, two_PS: numpy.ndarray) -> numpy.ndarray:
    """`shared` of many pairs of padded sketches, float [P]."""
    n = one_PS.shape[1]
    both_PT = numpy.sort(numpy.concatenate([one_PS, two_PS], axis=1), axis=1)
    there_PT = both_PT != EMPTY
    first_PT = there_PT.copy()
    first_PT[:, 1:] &= both_PT[:, 1:] != both_PT[:, :-1]
    among_PT = numpy.cumsum(first_PT, axis=1) <= n  # the smallest of the union: a fair draw of it
    union_P = numpy.minimum(first_PT.sum(axis=1), n)
    jaccard_P = (there_PT & ~first_PT & among_PT).sum(axis=1) / numpy.maximum(union_P, 1)
    return 2 * jaccard_P / (1 + jaccard_P)
