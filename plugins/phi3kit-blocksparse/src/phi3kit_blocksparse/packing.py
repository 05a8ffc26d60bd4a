"""The documents of packed rows, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

PADDING = -1  # see phi3kit.records.Batch


class Run(NamedTuple):
    """A document: tokens `start` to `stop` of a row."""

    row: int
    start: int
    stop: int
    number: int


def runs(documents_BT: Tensor) -> list[Run]:
    """Every document in order, padding among them: neighbouring tokens with the same number."""
    found = []
    for row, numbers in enumerate(documents_BT.tolist()):
        starts = [t for t in range(len(numbers)) if t == 0 or numbers[t] != numbers[t - 1]]
        stops = [*starts[1:], len(numbers)]
        found += [Run(row, start, stop, numbers[start]) for start, stop in zip(starts, stops, strict=True)]
    return found


def each_alone(attend: Callable[..., Tensor], documents_BT: Tensor | None, *tensors_BTHK: Tensor) -> Tensor:
    """`attend` on the tensors of each document, [T, H, K], put together again; padding gives zeros.

    Args:
        attend: takes the tensors in their order; its result has the first one's shape.
        documents_BT: None: every row is one document.
        tensors_BTHK: queries, keys, values.
    """
    queries_BTHK = tensors_BTHK[0]
    if documents_BT is None:
        return torch.stack([attend(*row) for row in zip(*tensors_BTHK, strict=True)])
    rows: list[list[Tensor]] = [[] for _ in queries_BTHK]
    for row, start, stop, number in runs(documents_BT.expand(queries_BTHK.shape[:2])):
        alone = [x_BTHK[row, start:stop] for x_BTHK in tensors_BTHK]
        rows[row].append(torch.zeros_like(alone[0]) if number == PADDING else attend(*alone))
    return torch.stack([torch.cat(parts) for parts in rows])
