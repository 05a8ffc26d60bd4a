"""Windows of texts by hash: where a page holds a piece of one of many texts, found without looking at each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy

from phi3kit.corpus.sketches import mixed

BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64


class Windows:
    """Windows of some texts, by their hashes; one without own letters stands only for the first text that has it."""

    def __init__(
        self,
        size: int,
        texts: Sequence[str],
        numbers: Sequence[int],
        stride: int = 1,
        own: Sequence[numpy.ndarray] | None = None,
    ) -> None:
        hashes, places, owners = [], [], []
        wording: set[int] = set()
        for i, (text, number) in enumerate(zip(texts, numbers, strict=True)):
            if len(text) >= size:
                some = window_hashes(sums_of(text), size)[::stride]
                at = numpy.arange(len(some)) * stride
                if own is not None:
                    upto = numpy.concatenate([[0], numpy.cumsum(own[i])])
                    none = (upto[at + size] == upto[at]).tolist()
                    keep = [not (n and h in wording) for n, h in zip(none, some.tolist(), strict=True)]
                    wording.update(h for n, h in zip(none, some.tolist(), strict=True) if n)
                    some, at = some[keep], at[keep]
                hashes.append(some)
                places.append(at)
                owners.append(numpy.full(len(some), number))
        self.size = size
        everything = numpy.concatenate([numpy.empty(0, numpy.uint64), *hashes])
        order = numpy.argsort(everything, kind="stable")
        self._hashes = everything[order]
        self._places = numpy.concatenate([numpy.empty(0, numpy.int64), *places])[order]
        self._owners = numpy.concatenate([numpy.empty(0, numpy.int64), *owners])[order]
        bits = max(16, len(order).bit_length() + 4)
        self._shift = numpy.uint64(64 - bits)
        self._maybe = numpy.zeros(2**bits, bool)  # a look here spares most searches
        self._maybe[self._hashes >> self._shift] = True

    def found(self, page: str, sums: numpy.ndarray) -> Iterator[tuple[int, int, int]]:
        """(place in the page, place in the text, number of the text) of each window of the page that is in a text."""
        if len(page) < self.size:
            return
        hashes = window_hashes(sums, self.size)
        ats = numpy.flatnonzero(self._maybe[hashes >> self._shift])
        lows, highs = (numpy.searchsorted(self._hashes, hashes[ats], side) for side in ("left", "right"))
        real = numpy.flatnonzero(highs > lows)
        for at, low, high in zip(ats[real].tolist(), lows[real].tolist(), highs[real].tolist(), strict=True):
            for i in range(low, high):
                yield at, int(self._places[i]), int(self._owners[i])


def sums_of(text: str) -> numpy.ndarray:
    """Sum of code(c_j) BASE^j over the first i characters, modulo 2^64, for every i; uint64 [n + 1]."""
    codes = numpy.frombuffer(text.encode("utf-32-le"), numpy.uint32).astype(numpy.uint64)
    terms = mixed(codes) * _powers(len(codes))[0]
    return numpy.concatenate([numpy.zeros(1, numpy.uint64), numpy.cumsum(terms, dtype=numpy.uint64)])


def window_hashes(sums: numpy.ndarray, size: int) -> numpy.ndarray:
    """Hash of the `size` characters from each place on; the same wherever they stand."""
    if len(sums) <= size:
        return numpy.empty(0, numpy.uint64)
    return mixed((sums[size:] - sums[:-size]) * _powers(len(sums) - size)[1])


def _powers(n: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """BASE^j and BASE^-j modulo 2^64 for j < n."""
    up, down = _power_tables(max(14, (n - 1).bit_length()))
    return up[:n], down[:n]


@lru_cache(8)
def _power_tables(bits: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    tables = []
    for base in (BASE, pow(BASE, -1, 2**64)):
        factors = numpy.full(2**bits, base, numpy.uint64)
        factors[0] = 1
        tables.append(numpy.multiply.accumulate(factors))
    return tables[0], tables[1]


def common(one: str, i: int, two: str, j: int) -> int:
    """How many characters are the same from one[i] and two[j] on."""
    low, high = 0, min(len(one) - i, len(two) - j)
    while low < high:
        middle = (low + high + 1) // 2
        if one[i + low : i + middle] == two[j + low : j + middle]:
            low = middle
        else:
            high = middle - 1
    return low
