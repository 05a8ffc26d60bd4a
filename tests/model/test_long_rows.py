"""Rows too long for a mask attend document by document: the same numbers, without the mask."""

from __future__ import annotations

import pytest
import torch

from phi3kit.model import attend


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("rows_of_documents", [1, 3])
def test_document_by_document_equals_the_mask(monkeypatch, window, rows_of_documents):
    torch.manual_seed(0)
    q_BTHK, k_BTGK, v_BTGK = (torch.randn(3, 40, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    lengths = [[10, 1, 29], [40], [3, 30, 7]][:rows_of_documents]
    documents_BT = torch.stack([torch.repeat_interleave(torch.arange(len(n)), torch.tensor(n)) for n in lengths])
    given = {"scale": 0.3, "window": window, "documents_BT": documents_BT}
    wanted = attend.attend(q_BTHK, k_BTGK, v_BTGK, **given)
    slopes = torch.autograd.grad(wanted.square().sum(), (q_BTHK, k_BTGK, v_BTGK))
    made = []
    monkeypatch.setattr(attend, "_mask", lambda *arguments: made.append(arguments[0]) or _original(*arguments))
    monkeypatch.setattr(attend, "LONG", 39)
    got = attend.attend(q_BTHK, k_BTGK, v_BTGK, **given)
    assert float((got - wanted).detach().abs().max()) < 1e-6
    for ours, theirs in zip(torch.autograd.grad(got.square().sum(), (q_BTHK, k_BTGK, v_BTGK)), slopes, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-5
    longest = max(n for row in lengths for n in row)
    assert all(queries <= longest for queries in made)
    assert bool(made) == (window is not None), "without a window no mask is made at all"


_original = attend._mask
