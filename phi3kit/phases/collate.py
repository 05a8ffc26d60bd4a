"""Sequences of ids -> a `Batch`: packing, padding, labels. Pure functions.

A row holds whole sequences one after another; each is a document of its own, with positions from 0, and the
last token of one never predicts the first of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from phi3kit.phases.losses import IGNORED
from phi3kit.records import Batch


@dataclass(frozen=True)
class Supervised:
    """One tokenized text with, for every token, whether the loss falls on predicting it."""

    ids: list[int]
    supervised: list[bool]


def stream_batch(blocks_BU: torch.Tensor, end_of_document: int, samples: list[int]) -> Batch:
    """Blocks of context + 1 ids out of a token stream; every token is supervised within its document.

    Args:
        blocks_BU: [B, context + 1] ids; documents end with `end_of_document`.
        end_of_document: id that closes a document; what follows it starts at position 0.
        samples: numbers of the blocks.
    """
    blocks_BU = blocks_BU.to(torch.int64)
    tokens_BT, labels_BT = blocks_BU[:, :-1], blocks_BU[:, 1:].clone()
    ended_BT = tokens_BT == end_of_document
    labels_BT[ended_BT] = IGNORED  # the first token of a document follows nothing
    documents_BT = torch.zeros_like(tokens_BT)
    documents_BT[:, 1:] = ended_BT[:, :-1].cumsum(1)
    return Batch(tokens_BT, labels_BT, _positions(documents_BT), documents_BT, samples)


def _positions(documents_BT: torch.Tensor) -> torch.Tensor:
    """Distance of every token from the start of its document."""
    index_BT = torch.arange(documents_BT.shape[1]).expand_as(documents_BT)
    starts_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    starts_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return index_BT - (index_BT * starts_BT).cummax(1).values


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Greedy first-fit packing, longest first: which sequences share a row of `capacity` tokens."""
    rows: list[tuple[int, list[int]]] = []
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        for i, (used, members) in enumerate(rows):
            if used + lengths[number] <= capacity:
                rows[i] = (used + lengths[number], [*members, number])
                break
        else:
            rows.append((lengths[number], [number]))
    return [members for _, members in rows]


def packed_batch(rows: list[list[Supervised]], padding: int, samples: list[int]) -> Batch:
    """Rows of whole sequences, padded to the longest row. Padding is its own document and carries no loss."""
    width = max(sum(len(s.ids) for s in row) for row in rows)
    shape = (len(rows), width)
    tokens_BT = torch.full(shape, padding, dtype=torch.int64)
    labels_BT = torch.full(shape, IGNORED, dtype=torch.int64)
    documents_BT = torch.full(shape, -1, dtype=torch.int64)
    for b, row in enumerate(rows):
        start = 0
        for number, sequence in enumerate(row):
            ids = torch.tensor(sequence.ids)
            wanted = torch.tensor(sequence.supervised)
            end = start + len(ids)
            tokens_BT[b, start:end] = ids
            labels_BT[b, start : end - 1] = torch.where(wanted[1:], ids[1:], IGNORED)
            documents_BT[b, start:end] = number
            start = end
    return Batch(tokens_BT, labels_BT, _positions(documents_BT), documents_BT, samples)
