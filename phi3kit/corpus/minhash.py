"""MinHash: documents whose runs of five words are mostly the same get signatures that are partly the same.

Signatures are exactly those of datatrove's MinhashDedupSignature with the same words (14 bands of 8 hashes), several
times faster: text is normalised by tables, n-grams are cut from one string, and the hash functions' modulus, a
Mersenne prime, needs no division.

Two documents are candidates when a band is equal. 14 bands of 8 find what differs in a place or two; when every tenth
word was edited, most runs of five words are different, and they do not. So the same 112 hashes are also cut into 56
narrow bands of 2, which find nearly anything similar. What a band brings together is compared: a sketch of each
document's words (the 256 smallest of their hashes) says how many they share, the hashes themselves how many of their
runs. Where numbers count, because they are what a text teaches, they stay in its words, and copies have the same.

Legend: N documents, W words, B bands.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from itertools import accumulate
from typing import NamedTuple, final

import numpy

from phi3kit.corpus.quantities import pairs_of
from phi3kit.corpus.sketches import sketch_of
from phi3kit.corpus.words import FineWebWords
from phi3kit.families import Splitter

PRIME = numpy.uint64(2**61 - 1)
SHIFT = numpy.uint64(61)
NARROW = 2  # hashes of a narrow band
QUANTITIES = 64  # pairs of numbers and operators that a sketch of them holds
AT_ONCE = 512  # n-grams hashed at once: 112 hashes of each stay in the processor's cache
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
NUMBER = re.compile(r"\d+(?:[.,،٫⎖⎗⎘]\d+)?")


class Signature(NamedTuple):
    """What deduplication knows of a document.

    `bands_BH` are its hashes by band, uint64 [14, 8]; None where it has fewer words than an n-gram.
    `sketch` are the smallest hashes of its words, uint32, sorted, at most 256; `quantities` those of its numbers and
    operators, each with the one before it, at most 64; none where they do not count. `words` says how many it has.
    """

    bands_BH: numpy.ndarray | None
    sketch: numpy.ndarray
    quantities: numpy.ndarray
    words: int


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
            only what the bands find, uncompared.
        runs: share of the n-grams of both that both must have besides (their Jaccard index): texts of the same words
            in other sentences are no copies.
        numbers: whether copies must have the same numbers and operators; null: everywhere but in sources of the
            profile web. Of texts with many, a fifth may differ.
        seed: of the hash functions.
    """

    def __init__(
        self,
        words: Splitter | None = None,
        bands: int = 14,
        hashes: int = 8,
        n_gram: int = 5,
        edited: float | None = 0.8,
        runs: float = 0.15,
        numbers: bool | None = None,
        seed: int = 1,
    ) -> None:
        self.words = words or FineWebWords()
        self.runs, self.numbers = runs, numbers
        self.bands, self.hashes, self.n_gram, self.edited, self.seed = bands, hashes, n_gram, edited, seed

    def signature(self, text: str, numbers: bool = False) -> Signature:
        """What deduplication knows of a document, whose numbers count or not."""
        words = self.words.split(normalised(text, numbers))
        quantities = sketch_of(pairs_of(text) if numbers else [], QUANTITIES)
        return Signature(self.bands_of(words), sketch_of(words), quantities, len(words))

    def counts_numbers(self, web: bool) -> bool:
        """Whether numbers count in a text, of a web page or not."""
        return not web if self.numbers is None else self.numbers

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


def normalised(text: str, numbers: bool = False) -> str:
    """Text as datatrove's `simplify_text` makes it: lower case, numbers as 0, without punctuation and accents.

    Args:
        text: of a document.
        numbers: they stay as they are.
    """
    text = text.lower() if numbers else NUMBER.sub("0", text.lower())
    text = _gaps().sub(" ", text).strip()
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
