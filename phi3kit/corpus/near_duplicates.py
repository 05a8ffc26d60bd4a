"""Near-duplicates over shards: signatures go to files, band by band in sorted order; equal keys are candidates.

Bands of 8 hashes that are equal make two documents copies, as MinHash has it; bands of 2 only make them candidates,
which are copies if they share enough words. Copies of copies belong together (union-find); the first of each group, in
the order of shards and rows, stays. Keys are read in ranges: memory grows with the copies found, not with the corpus.

Legend: N documents of a shard, M of them with signatures, B bands, wide ones first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy

from phi3kit.corpus.minhash import NARROW, SKETCH, MinHash, mixed, shared
from phi3kit.errors import UserError

AT_ONCE = 2**22  # keys of a band held in memory: about 200 MB while they are sorted
EMPTY = numpy.uint32(2**32 - 1)  # fills sketches of short documents


class Copy(NamedTuple):
    """A document that repeats an earlier one: which shard and row, of which shard and row."""

    shard: int
    row: int
    of_shard: int
    of_row: int


def write_signatures(folder: Path, texts: Iterable[str], minhash: MinHash) -> int:
    """Write the signatures of a shard's documents, in order, into a folder that exists; return how many documents.

    ``keys.npy``, uint64 [B, M], sorted; ``rows.npy``, uint32 [B, M], whose they are; ``sketches.npy``, uint32 [N, 256].
    """
    keys: list[numpy.ndarray] = []
    rows: list[int] = []
    sketches: list[numpy.ndarray] = []
    for row, text in enumerate(texts):
        signature = minhash.signature(text)
        sketches.append(numpy.pad(signature.sketch, (0, SKETCH - len(signature.sketch)), constant_values=EMPTY))
        if signature.bands_BH is not None:
            keys.append(band_keys(signature.bands_BH, minhash.edited is not None))
            rows.append(row)
    keys_BM = numpy.stack(keys, axis=1) if keys else numpy.empty((0, 0), numpy.uint64)
    order_BM = numpy.argsort(keys_BM, axis=1, kind="stable")
    numpy.save(folder / "keys.npy", numpy.take_along_axis(keys_BM, order_BM, axis=1))
    numpy.save(folder / "rows.npy", numpy.asarray(rows, numpy.uint32)[order_BM])
    numpy.save(folder / "sketches.npy", numpy.asarray(sketches, numpy.uint32).reshape(-1, SKETCH))
    return len(sketches)


def band_keys(bands_BH: numpy.ndarray, narrow: bool) -> numpy.ndarray:
    """One number for each wide band, then for each narrow one; uint64 [B]."""
    cuts = [bands_BH, bands_BH.reshape(-1, NARROW)] if narrow else [bands_BH]
    keys = []
    for cut_BH in cuts:
        key_B = numpy.zeros(len(cut_BH), numpy.uint64)
        for hash_B in cut_BH.T:
            key_B = mixed(key_B ^ hash_B)
        keys.append(key_B)
    return numpy.concatenate(keys)


def near_duplicates(folders: Sequence[Path], minhash: MinHash, at_once: int = AT_ONCE) -> list[Copy]:
    """Every document that repeats an earlier one, in order.

    Args:
        folders: of the shards, in order, as `write_signatures` wrote them.
        minhash: what they were written with.
        at_once: how many keys of a band to hold in memory.

    Raises:
        UserError: signatures are not whole, or were written with other bands.
    """
    shards = [_Shard(folder, minhash) for folder in folders]
    starts = numpy.cumsum([0, *(len(shard.sketches) for shard in shards)])
    groups = _Groups()
    for band in range(max((len(shard.keys) for shard in shards), default=0)):
        for first, number in _same_keys(shards, starts, band, at_once):
            if groups.first_of(first) == groups.first_of(number):
                continue
            if band < minhash.bands or _alike(shards, starts, first, number, minhash):
                groups.join(first, number)
    return [Copy(*_place(starts, number), *_place(starts, first)) for number, first in groups.copies()]


class _Shard:
    """The signatures of one shard, mapped."""

    def __init__(self, folder: Path, minhash: MinHash) -> None:
        try:
            self.keys, self.rows, self.sketches = (
                numpy.load(folder / f"{name}.npy", mmap_mode="r") for name in ("keys", "rows", "sketches")
            )
        except (OSError, ValueError) as error:
            raise UserError(f"the signatures in {folder} are not whole: {error}; make them again") from error
        wanted = minhash.bands * (1 + (minhash.hashes // NARROW if minhash.edited is not None else 0))
        if len(self.keys) not in (0, wanted):
            raise UserError(f"the signatures in {folder} have {len(self.keys)} bands, not {wanted}; make them again")


def _same_keys(shards: Sequence[_Shard], starts: numpy.ndarray, band: int, at_once: int) -> Iterator[tuple[int, int]]:
    """(earlier, later) numbers of documents with the same key: each with the first and with the one before it."""
    full = [(shard, int(start)) for shard, start in zip(shards, starts, strict=False) if len(shard.keys)]
    n_ranges = max(1, -(-sum(shard.keys.shape[1] for shard, _ in full) // at_once))
    bounds = numpy.asarray([2**64 * i // n_ranges for i in range(1, n_ranges)], numpy.uint64)  # keys are spread evenly
    cuts = [[0, *numpy.searchsorted(s.keys[band], bounds).tolist(), s.keys.shape[1]] for s, _ in full]
    for i in range(n_ranges):
        parts = [slice(cut[i], cut[i + 1]) for cut in cuts]
        keys = numpy.concatenate([shard.keys[band, part] for (shard, _), part in zip(full, parts, strict=True)])
        numbers = numpy.concatenate(
            [
                shard.rows[band, part].astype(numpy.int64) + start
                for (shard, start), part in zip(full, parts, strict=True)
            ]
        )
        order = numpy.argsort(keys, kind="stable")  # within a key in the order of documents
        keys, numbers = keys[order], numbers[order]
        again = numpy.flatnonzero(keys[1:] == keys[:-1]) + 1
        if not len(again):
            continue
        opens = numpy.concatenate([[True], keys[1:] != keys[:-1]])
        first = numpy.maximum.accumulate(numpy.where(opens, numpy.arange(len(keys)), 0))[again]
        for place, at in zip(again.tolist(), first.tolist(), strict=True):
            yield int(numbers[at]), int(numbers[place])
            if at != place - 1:
                yield int(numbers[place - 1]), int(numbers[place])


def _alike(shards: Sequence[_Shard], starts: numpy.ndarray, one: int, two: int, minhash: MinHash) -> bool:
    """Whether two documents share enough words."""
    assert minhash.edited is not None
    sketches = []
    for shard, row in (_place(starts, one), _place(starts, two)):
        sketch = shards[shard].sketches[row]
        sketches.append(sketch[: numpy.searchsorted(sketch, EMPTY)])
    return shared(*sketches) >= minhash.edited


def _place(starts: numpy.ndarray, number: int) -> tuple[int, int]:
    shard = int(numpy.searchsorted(starts, number, side="right")) - 1
    return shard, number - int(starts[shard])


class _Groups:
    """Union-find; every group is named by its first document."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def first_of(self, number: int) -> int:
        """The first document of its group, as known so far."""
        root = number
        while (above := self._above.get(root, root)) != root:
            root = above
        while number != root:  # shorten the way for the next time
            self._above[number], number = root, self._above[number]
        return root

    def join(self, one: int, two: int) -> None:
        """Make one group of two."""
        one, two = self.first_of(one), self.first_of(two)
        self._above[max(one, two)] = min(one, two)

    def copies(self) -> Iterator[tuple[int, int]]:
        """(document, first of its group), in order."""
        for number in sorted(self._above):
            yield number, self.first_of(number)
