"""What tests of quantizers share: a net that has learned something, its text, and how much a layer's output moves."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn

from phi3kit.model import Decoder, GatedMLP, GroupedQueryAttention, RoPE
from phi3kit.records import Dims

ROW, ROWS = 48, 136


@functools.cache
def _text() -> tuple[Tensor, ...]:
    """Sentences of a small grammar: subjects, verbs and objects that go together, in rows of ids below 64."""
    generator = torch.Generator().manual_seed(7)
    rows = []
    for _ in range(ROWS):
        row: list[int] = []
        while len(row) < ROW:
            subject = int(torch.randint(16, (1,), generator=generator))
            verb = 16 + (subject * 5 + int(torch.randint(2, (1,), generator=generator))) % 16
            row += [subject, verb, 32 + (subject + 3 * verb) % 31, 63]
        rows.append(torch.tensor(row[:ROW]))
    return tuple(rows)


def rows_of_text() -> list[Tensor]:
    """The rows; the last eight are not learned from."""
    return list(_text())


@functools.cache
@torch.enable_grad()
def _trained() -> Decoder:
    torch.manual_seed(0)
    dims = Dims(64, 64, 2, 4, n_kv_heads=2, intermediate_size=128, context=ROW)
    net = Decoder(dims, [GroupedQueryAttention], [GatedMLP], RoPE, init_std=0.05).train()
    text_BT = torch.stack(rows_of_text()[:-8])
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(120):
        rows_BT = text_BT[step % 4 :: 4]
        logits_BTV = net(rows_BT[:, :-1])
        loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1), rows_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def trained_net() -> Decoder:
    """A net of two layers that has learned most of the grammar; a new copy."""
    return copy.deepcopy(_trained())


def output_error(quantizer, layer: nn.Linear, x: Tensor) -> float:
    """How far a quantized layer's outputs are from the float layer's, relative (Frobenius)."""
    rounded = copy.deepcopy(layer)
    quantizer.quantize(rounded, "layers.0.mlp.up")
    wanted = layer(x)
    return float((rounded(x) - wanted).norm() / wanted.norm())
