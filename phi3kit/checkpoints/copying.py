"""Numbers from one folder's tensors into another's, a piece at a time, whatever the size of the model.

Both sides are mapped files; after every few pieces their pages are given back, so that this process holds about
`PIECE` bytes of each and no tensor ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phi3kit.model.finite import check_finite
from phi3kit.model.stored import Stored, shard_name
from phi3kit.model.tensor_file import Form, header

PIECE = 32 * 2**20  # bytes copied before the next look at the clock
SHARD = 5 * 10**9  # bytes of numbers in a file, as in the public repositories

Place = tuple[int | slice, ...]


class Move(NamedTuple):
    """Numbers to copy: ``target[target_place] = source[source_place]``; an empty place is the whole tensor."""

    source: str
    target: str
    source_place: Place = ()
    target_place: Place = ()


def copy(moves: Iterable[Move], source: Stored, target: Stored, checked: bool = True) -> Iterator[int]:
    """Do the moves in order, converting where types differ; yields the bytes of each piece when it is written.

    Args:
        moves: what to copy.
        source: where from.
        target: where to.
        checked: refuse NaN and infinities.

    Raises:
        UserError: there is one.
    """
    held = 0
    for move in moves:
        file = target.files[target.place[move.target]]
        new = file.tensor(move.target)[move.target_place]
        old = source.tensor(move.source)[move.source_place]
        rows = rows_of(new)
        for into, piece in zip(pieces(new, rows), pieces(old, rows), strict=True):
            if checked:
                check_finite(piece, move.source, source.files[source.place[move.source]].path)
            file.fill(into, piece)
            held += into.nbytes
            if held >= PIECE:
                source.forget()
                target.forget()
                held = 0
            yield into.nbytes
    source.forget()
    target.forget()


def equal(name: str, other: str, stored: Stored) -> bool:
    """Whether two stored tensors hold the same bits."""
    if stored.forms[name] != stored.forms[other]:
        return False
    for piece, its_like in zip(pieces(stored.tensor(name)), pieces(stored.tensor(other)), strict=True):
        if not bool((_bits(piece) == _bits(its_like)).all()):
            return False
        stored.forget()
    return True


def pieces(tensor: Tensor, rows: int | None = None) -> Sequence[Tensor]:
    """The tensor in runs of so many rows; by default of as many as `PIECE` bytes hold, but one at least."""
    return [tensor] if tensor.ndim == 0 else tensor.split(rows or rows_of(tensor))


def rows_of(tensor: Tensor) -> int:
    """How many rows of a tensor `PIECE` bytes hold, one at least."""
    return max(1, PIECE * len(tensor) // max(1, tensor.nbytes)) if tensor.ndim else 1


def _bits(tensor: Tensor) -> Tensor:
    """The tensor's bytes, so that NaN equals itself."""
    return tensor.contiguous().view(-1).view(torch.uint8)


def sharded(forms: Mapping[str, Form], limit: int = SHARD) -> dict[str, bytes]:
    """Headers by file name for tensors in this order, a new file where one would grow beyond the limit."""
    shards: list[dict[str, Form]] = [{}]
    for name, form in forms.items():
        if shards[-1] and sum(f.bytes for f in shards[-1].values()) + form.bytes > limit:
            shards.append({})
        shards[-1][name] = form
    return {shard_name(number, len(shards)): header(shard) for number, shard in enumerate(shards, start=1)}
