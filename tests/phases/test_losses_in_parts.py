"""The loss of many tokens is computed some at a time, and again in the backward pass: the same numbers."""

from __future__ import annotations

import torch

from phi3kit.phases import losses
from phi3kit.testing import tiny


def test_parts_equal_the_whole(monkeypatch):
    net, batch = tiny.net().train(), tiny.batch(rows=3, length=20)
    seen = []
    head = net.lm_head.register_forward_hook(lambda module, inputs, out: seen.append(out.shape[0]))
    whole_N = losses.token_losses(net, batch)
    whole_N.sum().backward()
    slopes = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    assert seen == [len(whole_N)]

    seen.clear()
    monkeypatch.setattr(losses, "MOST_LOGITS", 7 * net.dims.vocab_size)
    parts_N = losses.token_losses(net, batch)
    assert max(seen) == 7
    assert sum(seen) == len(whole_N)
    parts_N.sum().backward()
    assert sum(seen) == 2 * len(whole_N), "each part's logits are computed again, none were kept"
    head.remove()
    assert torch.equal(parts_N, whole_N)
    for name, parameter in net.named_parameters():
        assert float((parameter.grad - slopes[name]).abs().max()) < 1e-4, name
