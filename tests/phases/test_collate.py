"""Packing: positions, documents, and which token predicts which."""

from __future__ import annotations

import random

import torch

from phi3kit.phases.collate import Supervised, pack, packed_batch, stream_batch

END = 9


def test_a_stream_is_cut_into_documents_at_their_ends() -> None:
    block = torch.tensor([[1, 2, END, 3, 4, 5, END, 6]])
    batch = stream_batch(block, END, [7])
    assert batch.tokens_BT.tolist() == [[1, 2, END, 3, 4, 5, END]]
    assert batch.labels_BT.tolist() == [[2, END, -100, 4, 5, END, -100]]
    assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    assert batch.documents_BT.tolist() == [[0, 0, 0, 1, 1, 1, 1]]
    assert batch.samples == [7]


def test_uint16_blocks_do_not_overflow() -> None:
    batch = stream_batch(torch.tensor([[40000, 65535, 1]], dtype=torch.uint16), END, [0])
    assert batch.tokens_BT.tolist() == [[40000, 65535]]
    assert batch.tokens_BT.dtype == torch.int64


def test_packed_rows_keep_sequences_apart_and_padding_out() -> None:
    a = Supervised([1, 2, 3], [False, True, True])
    b = Supervised([4, 5], [True, True])
    batch = packed_batch([[a, b], [b]], padding=0, samples=[0, 1])
    assert batch.tokens_BT.tolist() == [[1, 2, 3, 4, 5], [4, 5, 0, 0, 0]]
    assert batch.labels_BT.tolist() == [[2, 3, -100, 5, -100], [5, -100, -100, -100, -100]]
    assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert batch.documents_BT.tolist() == [[0, 0, 0, 1, 1], [0, 0, -1, -1, -1]]


def test_packing_fills_rows_and_loses_nothing() -> None:
    lengths = [random.Random(n).randint(1, 64) for n in range(200)]
    rows = pack(lengths, 64)
    assert sorted(n for row in rows for n in row) == list(range(200))
    assert all(sum(lengths[n] for n in row) <= 64 for row in rows)
    assert len(rows) <= 1.1 * sum(lengths) / 64 + 1
