"""MinHash: documents whose runs of five words are mostly the same get signatures that are partly the same.

Signatures are exactly those of datatrove's MinhashDedupSignature with the same words (14 bands of 8 hashes), several
times faster: text is normalised by tables, n-grams are cut from one string, and the hash functions' modulus, a
Mersenne prime, needs no division.

Two documents are candidates when a band is equal. 14 bands of 8 find what differs in a place or two; when every tenth
word was edited, most runs of five words are different, and they do not. So the same 112 hashes are also cut into 56
narrow bands of 2, which find nearly anything similar, and what those bring together is compared word by word: a
sketch of each document's words (the 256 smallest of their hashes) says how many they share.

Legend: N documents, W words, B bands.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache, lru_cache
from itertools import accumulate
from typing import NamedTuple, final

import numpy

from phi3kit.corpus.words import FineWebWords
from phi3kit.families import Splitter

PRIME = numpy.uint64(2**61 - 1)
SHIFT = numpy.uint64(61)
NARROW = 2  # hashes of a narrow band
SKETCH = 256  # words a sketch holds
AT_ONCE = 512  # n-grams hashed at once: 112 hashes of each stay in the processor's cache
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
NUMBER = re.compile(r"\d+(?:[.,،٫⎖⎗⎘]\d+)?")


class Signature(NamedTuple):
    """What deduplication knows of a document.

    `bands_BH` are its hashes by band, uint64 [14, 8]; None where it has fewer words than an n-gram.
    `sketch` are the smallest hashes of its words, uint32, sorted, at most 256.
    """

    bands_BH: numpy.ndarray | None
    sketch: numpy.ndarray


@final
class MinHash:
    """Makes signatures.

    Args:
        words: what a word is; null: FineWebWords.
        bands: how many bands of hashes.
        hashes: hashes of a band; two documents whose n-grams overlap by s are found with probability
            1 - (1 - s^hashes)^bands (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2).
        n_gram: how many words make an n-gram.
        edited: share of the words that copies must have in common, so that copies edited all over are found; null:
            only what the bands find.
        seed: of the hash functions.
    """

    def __init__(
        self,
        words: Splitter | None = None,
        bands: int = 14,
        hashes: int = 8,
        n_gram: int = 5,
        edited: float | None = 0.8,
        seed: int = 1,
    ) -> None:
        self.words = words or FineWebWords()
        self.bands, self.hashes, self.n_gram, self.edited, self.seed = bands, hashes, n_gram, edited, seed

    def signature(self, text: str) -> Signature:
        """Bands and sketch of a document."""
        words = self.words.split(normalised(text))
        return Signature(self.bands_of(words), sketch_of(words))

    def bands_of(self, words: list[str]) -> numpy.ndarray | None:
        """Smallest hashes of the words' n-grams by band, uint64 [bands, hashes]; None without an n-gram."""
        grams_N1 = _hashed_n_grams(words, self.n_gram)[:, None]
        if not len(grams_N1):
            return None
        a_H, b_H = _functions(self.bands * self.hashes, self.seed)
        least_H = numpy.full(len(a_H), PRIME)
        for start in range(0, len(grams_N1), AT_ONCE):
            hashed_NH = grams_N1[start : start + AT_ONCE] * a_H
            hashed_NH += b_H
            high_NH = hashed_NH >> SHIFT
            hashed_NH &= PRIME
            hashed_NH += high_NH  # below 2^61 + 8: the modulus, or the prime above it
            numpy.subtract(hashed_NH, PRIME, out=hashed_NH, where=hashed_NH >= PRIME)
            numpy.minimum(least_H, hashed_NH.min(axis=0), out=least_H)
        return least_H.reshape(self.bands, self.hashes)


def normalised(text: str) -> str:
    """Text as datatrove's `simplify_text` makes it: lower case, numbers as 0, without punctuation and accents."""
    text = _gaps().sub(" ", NUMBER.sub("0", text.lower())).strip()
    return text if text.isascii() else NOT_ASCII.sub(lambda run: _without_accents(run[0]), text)


@cache
def _gaps() -> re.Pattern[str]:
    """White space and datatrove's punctuation."""
    from datatrove.utils.text import PUNCTUATION

    return re.compile(rf"[\s{re.escape(PUNCTUATION)}]+")


@lru_cache(2**14)
def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


@cache
def _functions(n: int, seed: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Factors and summands of the hash functions x -> (a x + b) mod (2^61 - 1), those that datatrove draws."""
    random = numpy.random.RandomState(seed)
    a, b = (random.randint(low, PRIME, dtype=numpy.uint64, size=(1, n))[0] for low in (1, 0))
    return a, b


def _hashed_n_grams(words: list[str], n: int) -> numpy.ndarray:
    """xxh64 of each n-gram, its words joined by spaces; cut from one string."""
    from xxhash import xxh64_intdigest

    if len(words) < n:
        return numpy.empty(0, numpy.uint64)
    text = " ".join(words).encode()
    lengths = map(len, words) if text.isascii() else (len(word.encode()) for word in words)
    starts = list(accumulate(lengths, lambda at, length: at + length + 1, initial=0))
    grams = map(text.__getitem__, map(slice, starts[: len(words) - n + 1], (end - 1 for end in starts[n:])))
    return numpy.fromiter(map(xxh64_intdigest, grams), numpy.uint64, len(words) - n + 1)


def sketch_of(words: list[str]) -> numpy.ndarray:
    """The smallest hashes of a bag of words: a word that occurs again counts as another word."""
    from xxhash import xxh32_intdigest

    counts = Counter(words)
    hashes = numpy.fromiter(map(xxh32_intdigest, counts), numpy.uint64, len(counts))
    times = numpy.fromiter(counts.values(), numpy.uint64, len(counts))
    copies = numpy.repeat(hashes, times.astype(numpy.int64))
    order = numpy.arange(len(copies), dtype=numpy.uint64) - numpy.repeat(
        numpy.cumsum(times) - times, times.astype(numpy.int64)
    )
    return numpy.sort(mixed(copies + (order << numpy.uint64(32))).astype(numpy.uint32))[:SKETCH]


def mixed(x: numpy.ndarray) -> numpy.ndarray:
    """uint64 -> uint64, every bit depending on every other (splitmix64, https://prng.di.unimi.it/splitmix64.c)."""
    x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return x ^ (x >> numpy.uint64(31))


def shared(one: numpy.ndarray, two: numpy.ndarray) -> float:
    """Share of the words of two documents that both have, estimated from their sketches: 2 |both| / (|one| + |two|)."""
    union = numpy.union1d(one, two)[:SKETCH]
    both = numpy.isin(union, one, assume_unique=False) & numpy.isin(union, two)
    jaccard = both.sum() / max(len(union), 1)
    return float(2 * jaccard / (1 + jaccard))
