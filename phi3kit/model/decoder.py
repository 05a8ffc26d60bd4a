"""The net: embedding, blocks, norm, head. Everything that varies between Phi models is a component."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from phi3kit.families import Attention, Cache, FeedForward, Position, Rotation
from phi3kit.model.norm import RMSNorm
from phi3kit.records import Dims


@final
class Block(nn.Module):
    """Pre-norm residual block: attention, then feed-forward."""

    def __init__(self, dims: Dims, attention: Attention, feed_forward: FeedForward, norm_eps: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(dims.hidden_size, norm_eps)
        self.self_attn = attention
        self.post_attention_layernorm = RMSNorm(dims.hidden_size, norm_eps)
        self.mlp = feed_forward

    def forward(self, x_BTD: Tensor, rotation: Rotation, documents_BT: Tensor | None, cache: Cache | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotation, documents_BT, cache)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


@final
class Decoder(nn.Module):
    """A Phi language model. Layer i is built from ``attention[i % len(attention)]``, and so for feed_forward.

    Args:
        dims: sizes every part shares.
        attention: the kinds of attention, alternating by layer.
        feed_forward: the kinds of feed-forward, alternating by layer.
        position: how tokens know where they stand.
        norm_eps: added to the mean square inside RMSNorm.
        tied: the output head is the embedding.
        init_std: standard deviation of the initial weights (HF config: initializer_range).
    """

    def __init__(
        self,
        dims: Dims,
        attention: list[Callable[[Dims, int], Attention]],
        feed_forward: list[Callable[[Dims, int], FeedForward]],
        position: Callable[[Dims], Position],
        norm_eps: float = 1e-5,
        tied: bool = False,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.tied = tied
        self.position = position(dims)
        self.embed_tokens = nn.Embedding(dims.vocab_size, dims.hidden_size)
        self.layers = nn.ModuleList(
            Block(
                dims,
                attention[i % len(attention)](dims, i),
                feed_forward[i % len(feed_forward)](dims, i),
                norm_eps,
            )
            for i in range(dims.n_layers)
        )
        self.norm = RMSNorm(dims.hidden_size, norm_eps)
        self.lm_head = nn.Linear(dims.hidden_size, dims.vocab_size, bias=False)
        self.apply(lambda module: _initialise(module, init_std))
        if tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits, [B, T, V]. See `hidden` for the arguments."""
        return self.lm_head(self.hidden(tokens_BT, positions_BT, documents_BT, cache))

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The normalised residual stream before the head, [B, T, D].

        Args:
            tokens_BT: token ids.
            positions_BT: position of each token in its document; None counts on from the cache.
            documents_BT: packed rows: a token sees only tokens of its own document.
            cache: earlier tokens of the same sequences.
        """
        if positions_BT is None:
            start = cache.length if cache is not None else 0
            positions_BT = torch.arange(start, start + tokens_BT.shape[1], device=tokens_BT.device)[None]
        rotation = self.position(positions_BT)
        x_BTD = self.embed_tokens(tokens_BT)
        for block in self.layers:
            x_BTD = block(x_BTD, rotation, documents_BT, cache)
        return self.norm(x_BTD)

    def parameter_count(self) -> int:
        """Distinct parameters; a tied head counts once."""
        return sum(p.numel() for p in self.parameters())


def _initialise(module: nn.Module, std: float) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
