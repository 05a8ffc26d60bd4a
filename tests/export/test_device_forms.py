"""Parts take their device form in place, once, and compute what they did."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from phi3kit.export.device import for_device
from phi3kit.families import FeedForward
from phi3kit.testing import tiny


@final
class Stacked(FeedForward):
    """A matrix that is no linear layer until it goes to a device."""

    def __init__(self, dims, layer):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(dims.hidden_size, dims.hidden_size))

    def forward(self, x_BTD):
        return x_BTD @ self.matrix.T

    def on_device(self):
        return Linear(self.matrix)


@final
class Linear(nn.Module):
    """Its device form."""

    def __init__(self, matrix):
        super().__init__()
        self.linear = nn.Linear(*matrix.shape, bias=False, device="meta")
        self.linear.weight = matrix

    def forward(self, x_BTD):
        return self.linear(x_BTD)


@final
class Plain(FeedForward):
    """Its trained form is its device form."""

    def __init__(self, dims, layer):
        super().__init__()
        self.linear = nn.Linear(dims.hidden_size, dims.hidden_size)

    def forward(self, x_BTD):
        return self.linear(x_BTD)


def test_forms_replace_parts_in_place_and_share_their_weights():
    net, tokens_BT = tiny.net(feed_forward=Stacked), tiny.batch().tokens_BT
    wanted, matrices = net(tokens_BT), [block.mlp.matrix for block in net.layers]
    for_device(net)
    assert [type(block.mlp) for block in net.layers] == [Linear, Linear]
    assert [block.mlp.linear.weight for block in net.layers] == matrices
    assert not net.layers[0].mlp.training
    torch.testing.assert_close(net(tokens_BT), wanted)
    forms = [block.mlp for block in net.layers]
    for_device(net)
    assert [block.mlp for block in net.layers] == forms


def test_one_block_alone_and_parts_without_a_form():
    net = tiny.net(feed_forward=Stacked)
    for_device(net.layers[1])
    assert [type(block.mlp) for block in net.layers] == [Stacked, Linear]
    plain = tiny.net(feed_forward=Plain)
    parts = [block.mlp for block in plain.layers]
    for_device(plain)
    assert [block.mlp for block in plain.layers] == parts
