"""Texts as hashed words and pairs of words: no vocabulary to keep, the same numbers in every process.

A word is a run of letters and digits, in lower case; scripts without spaces are split by character. A feature's
value is 1 + log(count), and a text's values have length one. No inverse document frequency: on the 281 labelled pages
of DCLM the AUC is 0.942 without and 0.928 with it (5-fold, mean of three shuffles), and 0.877 against 0.846 among
pages of about the same length.

Shapes: N texts, E (text, feature) entries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple
from zlib import crc32

import numpy as np

BITS = 18
WIDTH = 1 << BITS  # features
AT_ONCE = 32  # texts: more fall out of the processor's cache
MOST_COUNTED = 4096

# Word and pair hashes: crc32 spread over 64 bits by odd constants (Knuth, TAOCP 6.4, multiplicative hashing); the
# upper bits are the good ones.
SPREAD, SPREAD_PAIR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
DOWN, UP, LOW = np.uint64(64 - BITS), np.uint64(BITS), np.uint64(WIDTH - 1)
DAMPED = np.concatenate([[0.0], 1 + np.log(np.arange(1, MOST_COUNTED + 1))])  # a table: np.log may differ by lane

MARKS = "’‘“”–—…•·«»\u00a0\u200b\u2009™®©°"  # what else than ASCII stands in most English pages
UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Thai … Khmer, Kana, Han
WORD = re.compile(f"[{UNSPACED}]|[^\\W_{UNSPACED}]+")
RULES = f"crc32 {BITS} {MOST_COUNTED} {SPREAD} {SPREAD_PAIR} {MARKS} {WORD.pattern}"  # a part of a scorer's version
ASCII_WORDS = bytes(byte if byte > 127 or chr(byte).isalnum() else 32 for byte in range(256))


class Entries(NamedTuple):
    """The features that texts have: entry e says that text `row_E[e]` has `value_E[e]` of feature `column_E[e]`."""

    row_E: np.ndarray
    column_E: np.ndarray
    value_E: np.ndarray


def words(text: str) -> list[bytes]:
    """The words of a text. The short way for ASCII gives the words that `WORD` finds."""
    text = text.lower()
    if not text.isascii():
        for mark in MARKS:
            text = text.replace(mark, " ")
    if text.isascii():
        return text.encode().translate(ASCII_WORDS).split()
    return [word.encode("utf-8", "surrogatepass") for word in WORD.findall(text)]


def entries(texts: Sequence[str]) -> Entries:
    """Features of texts, sorted by text and feature; a text without words has none."""
    words_N = [words(text) for text in texts]
    n_N = np.fromiter(map(len, words_N), np.int64, len(words_N))
    hash_W = np.fromiter(map(crc32, chain.from_iterable(words_N)), np.uint64, int(n_N.sum()))
    if not len(hash_W):
        return Entries(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    row_W = np.repeat(np.arange(len(words_N), dtype=np.uint64) << UP, n_N)
    spread_W = hash_W * SPREAD
    pairs = (((spread_W[:-1] ^ hash_W[1:]) * SPREAD_PAIR) >> DOWN) | row_W[1:]
    key = np.concatenate([row_W | (spread_W >> DOWN), pairs[row_W[1:] == row_W[:-1]]])
    key.sort()
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    count_E = np.minimum(np.diff(first, append=len(key)), MOST_COUNTED)
    row_E, column_E = (key[first] >> UP).astype(np.int64), (key[first] & LOW).astype(np.int64)
    value_E = DAMPED[count_E]
    length_N = np.sqrt(np.bincount(row_E, value_E * value_E, len(words_N)))
    return Entries(row_E, column_E, value_E / length_N[row_E])


def weigh(texts: Sequence[str], weight_F: np.ndarray) -> np.ndarray:
    """The weighted sum of each text's features, [N].

    A text's sum is added up in the order of its own features, so it is the same alone and among others.
    """
    sums = []
    for start in range(0, len(texts), AT_ONCE):
        group = texts[start : start + AT_ONCE]
        found = entries(group)
        sums.append(np.bincount(found.row_E, found.value_E * weight_F[found.column_E], len(group)))
    return np.concatenate(sums) if sums else np.empty(0)
