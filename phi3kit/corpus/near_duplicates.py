"""Near-duplicates over shards: signatures go to files, band by band in sorted order; equal keys are candidates.

Candidates are compared (`Likeness`), and a document goes only if it is like one that stays: what is like a copy, but
not like what the copy repeats, stays too. Keys are read in ranges: memory grows with the copies found, not with the
corpus.

Legend: N documents of a shard, M of them with signatures, B bands, wide ones first, H hashes, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from phi3kit.corpus.likeness import Likeness
from phi3kit.corpus.minhash import NARROW, QUANTITIES, MinHash
from phi3kit.corpus.sketches import mixed, padded
from phi3kit.errors import UserError

AT_ONCE = 2**22  # keys of a band held in memory: about 200 MB while they are sorted
BEFORE = 3  # documents before it, of those with its key, that a document is compared with, besides the first
REFUSED = 2**22  # pairs found unlike that are remembered: 32 MB
FILES = ("keys", "rows", "sketches", "hashes", "quantities", "sizes")


class Copy(NamedTuple):
    """A document that repeats an earlier one: which shard and row, of which shard and row."""

    shard: int
    row: int
    of_shard: int
    of_row: int


def write_signatures(folder: Path, texts: Iterable[str], minhash: MinHash, web: bool = True) -> int:
    """Write the signatures of a shard's documents, in order, into a folder that exists; return how many documents.

    ``keys.npy``, uint64 [B, M], sorted; ``rows.npy``, uint32 [B, M], whose they are; of all N documents:
    ``sketches.npy`` of words, ``hashes.npy`` of runs (their lower halves), ``quantities.npy``, and ``sizes.npy``, how
    many words they have and whether their numbers count.

    Args:
        folder: of the shard.
        texts: of its documents.
        minhash: makes signatures.
        web: whether they are web pages, of which numbers say little.
    """
    keys: list[numpy.ndarray] = []
    rows: list[int] = []
    columns: dict[str, list[Any]] = {"sketches": [], "hashes": [], "quantities": [], "sizes": []}
    numbers = minhash.counts_numbers(web)
    nothing = numpy.zeros((minhash.bands, minhash.hashes), numpy.uint64)
    for row, text in enumerate(texts):
        signature = minhash.signature(text, numbers)
        columns["sketches"].append(padded(signature.sketch))
        columns["hashes"].append((nothing if signature.bands_BH is None else signature.bands_BH).astype(numpy.uint32))
        columns["quantities"].append(padded(signature.quantities, QUANTITIES))
        columns["sizes"].append((signature.words, numbers))
        if signature.bands_BH is not None:
            keys.append(band_keys(signature.bands_BH, minhash.edited is not None))
            rows.append(row)
    keys_BM = numpy.stack(keys, axis=1) if keys else numpy.empty((0, 0), numpy.uint64)
    order_BM = numpy.argsort(keys_BM, axis=1, kind="stable")
    numpy.save(folder / "keys.npy", numpy.take_along_axis(keys_BM, order_BM, axis=1))
    numpy.save(folder / "rows.npy", numpy.asarray(rows, numpy.uint32)[order_BM])
    n = len(columns["sizes"])
    for name, of_all in columns.items():
        numpy.save(folder / f"{name}.npy", numpy.asarray(of_all, numpy.uint32).reshape(n, -1 if n else 1))
    return n


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
    """Every document that repeats an earlier one that stays, in order.

    Args:
        folders: of the shards, in order, as `write_signatures` wrote them.
        minhash: what they were written with.
        at_once: how many keys of a band to hold in memory.

    Raises:
        UserError: signatures are not whole, or were written with other bands.
    """
    shards = [_Shard(folder, minhash) for folder in folders]
    starts = numpy.cumsum([0, *(len(shard.sketches) for shard in shards)])
    likeness = Likeness(shards, starts, minhash)
    total = int(starts[-1])
    alike, refused = numpy.empty(0, numpy.int64), numpy.empty(0, numpy.int64)  # earlier + total * later, sorted
    for band in range(max((len(shard.keys) for shard in shards), default=0)):
        for early_P, late_P in _same_keys(shards, starts, band, at_once):
            new = numpy.unique(early_P + total * late_P)
            new = new[~(_among(new, alike) | _among(new, refused))]
            like_P = likeness.of(new % total, new // total)
            alike = numpy.sort(numpy.concatenate([alike, new[like_P]]))
            refused = numpy.sort(numpy.concatenate([refused, new[~like_P]])) if len(refused) < REFUSED else new[~like_P]
    return [Copy(*_place(starts, late), *_place(starts, early)) for late, early in _of_those_that_stay(alike, total)]


def _of_those_that_stay(pairs: numpy.ndarray, total: int) -> Iterator[tuple[int, int]]:
    """(document, the first one before it that is like it and stays), in order of documents."""
    gone: set[int] = set()
    for late, early in zip((pairs // max(total, 1)).tolist(), (pairs % max(total, 1)).tolist(), strict=True):
        if late not in gone and early not in gone:
            gone.add(late)
            yield late, early


def _among(values: numpy.ndarray, those: numpy.ndarray) -> numpy.ndarray:
    """Which of some values are in a sorted array."""
    if not len(those):
        return numpy.zeros(len(values), bool)
    return those[numpy.searchsorted(those, values).clip(max=len(those) - 1)] == values


class _Shard:
    """The signatures of one shard, mapped."""

    def __init__(self, folder: Path, minhash: MinHash) -> None:
        try:
            self.keys, self.rows, self.sketches, self.hashes, self.quantities, self.sizes = (
                numpy.load(folder / f"{name}.npy", mmap_mode="r") for name in FILES
            )
        except (OSError, ValueError) as error:
            raise UserError(f"the signatures in {folder} are not whole: {error}; make them again") from error
        wanted = minhash.bands * (1 + (minhash.hashes // NARROW if minhash.edited is not None else 0))
        if len(self.keys) not in (0, wanted):
            raise UserError(f"the signatures in {folder} have {len(self.keys)} bands, not {wanted}; make them again")


def _same_keys(
    shards: Sequence[_Shard], starts: numpy.ndarray, band: int, at_once: int
) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    """(earlier, later) numbers of documents with the same key: each with the first, and with some before it."""
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
        opens = numpy.concatenate([[True], keys[1:] != keys[:-1]])
        first = numpy.maximum.accumulate(numpy.where(opens, numpy.arange(len(keys)), 0))
        again = numpy.flatnonzero(~opens)
        others = [again[again - back > first[again]] for back in range(1, BEFORE + 1)]
        early = numpy.concatenate([first[again], *(at - back for back, at in enumerate(others, start=1))])
        if len(early):
            yield numbers[early], numbers[numpy.concatenate([again, *others])]


def _place(starts: numpy.ndarray, number: int) -> tuple[int, int]:
    shard = int(numpy.searchsorted(starts, number, side="right")) - 1
    return shard, number - int(starts[shard])
