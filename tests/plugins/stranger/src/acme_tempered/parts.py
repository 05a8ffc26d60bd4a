"""Attention with a temperature; a filter against lists of single words."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from phi3kit.families import Attention, Cache, Filter, Rotation
from phi3kit.model.attend import attend
from phi3kit.model.position import rotate
from phi3kit.records import Dims, Document


@final
class TemperedAttention(Attention):
    """Multi-head attention whose scores are divided by a temperature; one head per query, no grouping.

    Args:
        dims: the net's sizes.
        layer: index of this layer.
        temperature: above 1 looks more evenly, below 1 more sharply.
    """

    def __init__(self, dims: Dims, layer: int, temperature: float = 1.5) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.head_dim = dims.n_heads, dims.head_width
        self.scale = self.head_dim**-0.5 / temperature
        self.qkv_proj = nn.Linear(dims.hidden_size, 3 * self.heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, dims.hidden_size, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, self.head_dim)) for part in self.qkv_proj(x_BTD).chunk(3, -1))
        q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            out = cache.attend(self.layer, q, k, v, scale=self.scale, window=None)
        else:
            out = attend(q, k, v, scale=self.scale, documents_BT=documents_BT)
        return self.o_proj(out.flatten(2))


@final
class LonelyWords(Filter):
    """Rejects a text most of whose lines are one word.

    Args:
        most: the largest share of one-word lines a text may have.
    """

    def __init__(self, most: float = 0.6) -> None:
        self.most = most

    def reject(self, document: Document) -> str | None:
        lines = [line.split() for line in document.text.splitlines() if line.strip()]
        lonely = sum(len(words) == 1 for words in lines)
        return "one word per line" if lonely > self.most * len(lines) else None
