"""The net: embedding, blocks, norm, head. Everything that varies between Phi models is a component."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phi3kit.bounds import DropoutShare, NotEmpty, Positive
from phi3kit.errors import UserError
from phi3kit.families import Attention, Auxiliary, Cache, FeedForward, Norm, Position, Rotation, VisionEncoder
from phi3kit.model.norm import RMSNorm
from phi3kit.records import Dims, Pictures


@final
class Block(nn.Module):
    """Pre-norm residual block: attention, then feed-forward."""

    def __init__(
        self, width: int, attention: Attention, feed_forward: FeedForward, norm: Callable[[int], Norm]
    ) -> None:
        super().__init__()
        self.input_layernorm = norm(width)
        self.self_attn = attention
        self.post_attention_layernorm = norm(width)
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
        norm: what normalises the residual stream; null means RMSNorm.
        vision: turns images into rows of the residual stream; null reads text only.
        tied: the output head is the embedding.
        head_bias: the output head has a bias (Phi-3.5-MoE).
        embedding_scale: factor on the embeddings (Phi-3-small's muP: 10).
        embedding_dropout: share of the embeddings' numbers dropped in training, before that factor.
        logit_scale: factor on the logits (Phi-3-small's muP: 1/8).
        unused_ids: ids that can never be said: their logits are the lowest number (Phi-3-small's dummy tokens).
        init_std: standard deviation of the initial matrices (HF config: initializer_range).
        init_scale: factors on `init_std` by the ending of a parameter's name.
    """

    def __init__(
        self,
        dims: Dims,
        attention: Annotated[list[Callable[[Dims, int], Attention]], NotEmpty],
        feed_forward: Annotated[list[Callable[[Dims, int], FeedForward]], NotEmpty],
        position: Callable[[Dims], Position],
        norm: Callable[[int], Norm] | None = None,
        vision: Callable[[Dims], VisionEncoder] | None = None,
        tied: bool = False,
        head_bias: bool = False,
        embedding_scale: float = 1.0,
        embedding_dropout: DropoutShare = 0.0,
        logit_scale: float = 1.0,
        unused_ids: list[int] | None = None,
        init_std: Positive = 0.02,
        init_scale: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        norm = norm or RMSNorm
        self.dims = dims
        self.tied = tied
        self.embedding_scale, self.embedding_dropout, self.logit_scale = embedding_scale, embedding_dropout, logit_scale
        self.unused_ids = unused_ids or []
        self.position = position(dims)
        self.embed_tokens = nn.Embedding(dims.vocab_size, dims.hidden_size)
        self.layers = nn.ModuleList(
            Block(
                dims.hidden_size,
                attention[i % len(attention)](dims, i),
                feed_forward[i % len(feed_forward)](dims, i),
                norm,
            )
            for i in range(dims.n_layers)
        )
        self.norm = norm(dims.hidden_size)
        self.lm_head = nn.Linear(dims.hidden_size, dims.vocab_size, bias=head_bias)
        _initialise(self, init_std, init_scale or {})
        if tied:
            self.lm_head.weight = self.embed_tokens.weight
        self.vision_embed_tokens = None if vision is None else vision(dims)  # initialises itself

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
        pictures: Pictures | None = None,
    ) -> Tensor:
        """Logits, [B, T, V]. See `hidden` for the arguments."""
        return self.logits(self.hidden(tokens_BT, positions_BT, documents_BT, cache, pictures))

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
        pictures: Pictures | None = None,
    ) -> Tensor:
        """The normalised residual stream before the head, [B, T, D].

        Args:
            tokens_BT: token ids; negative where a row of an image stands.
            positions_BT: position of each token in its document; None counts on from the cache.
            documents_BT: packed rows: a token sees only tokens of its own document.
            cache: earlier tokens of the same sequences.
            pictures: the images behind the negative ids, in reading order.
        """
        if positions_BT is None:
            start = cache.length if cache is not None else 0
            positions_BT = torch.arange(start, start + tokens_BT.shape[1], device=tokens_BT.device)[None]
        return self.through_blocks(self.embed(tokens_BT, pictures), positions_BT, documents_BT, cache)

    def through_blocks(
        self, x_BTD: Tensor, positions_BT: Tensor, documents_BT: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """`hidden` from what `embed` gave, [B, T, D]."""
        rotation = self.position(positions_BT)
        for block in self.layers:
            x_BTD = block(x_BTD, rotation, documents_BT, cache)
        return self.norm(x_BTD)

    def embed(self, tokens_BT: Tensor, pictures: Pictures | None = None) -> Tensor:
        """The residual stream's beginning, [B, T, D]: embeddings of tokens, and rows of images at negative ids."""
        if pictures is None:
            x_BTD = self._without_images(tokens_BT)
        else:
            x_BTD = self._with_images(tokens_BT, pictures)
        if self.embedding_dropout:
            x_BTD = F.dropout(x_BTD, self.embedding_dropout, self.training)
        return x_BTD if self.embedding_scale == 1.0 else x_BTD * self.embedding_scale

    def _without_images(self, tokens_BT: Tensor) -> Tensor:
        """Training on text alone gives vision a gradient of zero: devices whose batches have images, and those whose
        batches have none, must reduce the gradients of the same parameters."""
        x_BTD = self.embed_tokens(tokens_BT)
        if self.vision_embed_tokens is None or not torch.is_grad_enabled():
            return x_BTD
        learns = (p for p in self.vision_embed_tokens.parameters() if p.requires_grad)
        return x_BTD + sum((p.sum() for p in learns), start=torch.zeros((), device=x_BTD.device)).to(x_BTD.dtype) * 0

    def _with_images(self, tokens_BT: Tensor, pictures: Pictures) -> Tensor:
        if self.vision_embed_tokens is None:
            raise UserError("the batch has images, but the net has no `vision`; name a VisionEncoder in the recipe")
        image_BT = tokens_BT < 0
        rows_ND = self.vision_embed_tokens(pictures)
        wanted = int(image_BT.sum())
        if len(rows_ND) != wanted:
            raise UserError(f"the images give {len(rows_ND)} rows, the text leaves room for {wanted}")
        x_BTD = self.embed_tokens(tokens_BT.clamp(min=0))
        return x_BTD.masked_scatter(image_BT[..., None], rows_ND.to(x_BTD.dtype))

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Scores of every id, [..., V], from `hidden`."""
        logits_BTV = self.lm_head(hidden_BTD)
        if self.logit_scale != 1.0:
            logits_BTV = logits_BTV * self.logit_scale
        if self.unused_ids:
            ids_BTN = torch.tensor(self.unused_ids, device=logits_BTV.device).expand(*logits_BTV.shape[:-1], -1)
            logits_BTV = logits_BTV.scatter(-1, ids_BTN, torch.finfo(logits_BTV.dtype).min)
        return logits_BTV

    def auxiliaries(self, real_BT: Tensor) -> Iterator[Auxiliary]:
        """What each layer's feed-forward wants beside the loss, where it wants anything."""
        for block in self.layers:
            assert isinstance(block, Block)
            auxiliary = block.mlp.auxiliary(real_BT)
            if auxiliary is not None:
                yield auxiliary

    def parameter_count(self) -> int:
        """Distinct parameters; a tied head counts once."""
        return sum(p.numel() for p in self.parameters())


@torch.no_grad()
def _initialise(net: nn.Module, std: float, scale: dict[str, float]) -> None:
    """Matrices (and stacks of them) from a normal distribution, biases zero; norms keep their ones."""
    for name, parameter in net.named_parameters():
        if parameter.ndim >= 2:
            factor = next((factor for ending, factor in scale.items() if name.endswith(ending)), 1.0)
            parameter.normal_(std=std * factor)
        elif name.endswith("bias"):
            parameter.zero_()
