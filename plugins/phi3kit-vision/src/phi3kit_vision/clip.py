"""CLIP's image tower (arXiv 2103.00020; ViT-L/14-336 as openai/clip-vit-large-patch14-336 has it).

Special: QuickGELU, a norm before the first layer (``pre_layrnorm``, spelt so in every checkpoint), and the features
are taken before the last layers, which exist (checkpoints hold them) but are never run and never learn.

Shapes: N views, P patches of a view, S = 1 + P tokens (the class token first), C width, H heads, K head width.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from phi3kit import UserError

EPS = 1e-5  # of every LayerNorm (openai/clip-vit-large-patch14-336, config.json: layer_norm_eps)


@final
class Embeddings(nn.Module):
    """Patches through a strided convolution, a class token before them, a learned vector for each place."""

    def __init__(self, hidden: int, image: int, patch: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(hidden))
        self.patch_embedding = nn.Conv2d(3, hidden, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = Places((image // patch) ** 2 + 1, hidden)

    def forward(self, pixels_NCYX: Tensor) -> Tensor:
        patches_NPC = self.patch_embedding(pixels_NCYX).flatten(2).transpose(1, 2)
        first_N1C = self.class_embedding.expand(len(patches_NPC), 1, -1)
        return torch.cat((first_N1C, patches_NPC), dim=1) + self.position_embedding.weight


@final
class Places(nn.Module):
    """A vector for each place, all of which are always used: no lookup, and nothing for a quantizer of lookups."""

    def __init__(self, places: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(places, hidden))


@final
class SelfAttention(nn.Module):
    """Every token of a view attends to all of them; all four projections have biases."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(hidden, hidden)
        self.v_proj = nn.Linear(hidden, hidden)
        self.q_proj = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)

    def forward(self, x_NSC: Tensor) -> Tensor:
        q_NHSK, k_NHSK, v_NHSK = (
            projection(x_NSC).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        out_NHSK = F.scaled_dot_product_attention(q_NHSK, k_NHSK, v_NHSK)
        return self.out_proj(out_NHSK.transpose(1, 2).flatten(2))


@final
class MLP(nn.Module):
    """Two matrices around QuickGELU, ``x * sigmoid(1.702 x)``."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, intermediate)
        self.fc2 = nn.Linear(intermediate, hidden)

    def forward(self, x_NSC: Tensor) -> Tensor:
        inner = self.fc1(x_NSC)
        return self.fc2(inner * torch.sigmoid(1.702 * inner))


@final
class Layer(nn.Module):
    """Pre-norm residual layer."""

    def __init__(self, hidden: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(hidden, heads)
        self.layer_norm1 = nn.LayerNorm(hidden, EPS)
        self.mlp = MLP(hidden, intermediate)
        self.layer_norm2 = nn.LayerNorm(hidden, EPS)

    def forward(self, x_NSC: Tensor) -> Tensor:
        x_NSC = x_NSC + self.self_attn(self.layer_norm1(x_NSC))
        return x_NSC + self.mlp(self.layer_norm2(x_NSC))


@final
class CLIPTower(nn.Module):
    """Views to features of their patches, [N, P, C], from an inner layer.

    Args:
        hidden: width.
        layers: how many there are; those after `feature_layer` are never run.
        heads: attention heads per layer.
        intermediate: inner width of the layers' MLPs.
        image: side of a view, in pixels.
        patch: side of a patch, in pixels.
        feature_layer: which of the layers + 1 hidden states is taken, counted like a Python index.
        recompute: keep only the input of each layer for the backward pass.
    """

    def __init__(
        self,
        hidden: int,
        layers: int,
        heads: int,
        intermediate: int,
        image: int,
        patch: int,
        feature_layer: int,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise UserError(f"hidden {hidden} is not a multiple of heads {heads}; change one of them")
        if not -layers - 1 <= feature_layer <= layers:
            raise UserError(f"feature_layer {feature_layer} is none of {layers} layers; use {-layers - 1} to {layers}")
        self.used, self.recompute = feature_layer % (layers + 1), recompute
        self.embeddings = Embeddings(hidden, image, patch)
        self.pre_layrnorm = nn.LayerNorm(hidden, EPS)
        stack = nn.ModuleList(Layer(hidden, heads, intermediate) for _ in range(layers))
        self.encoder = nn.ModuleDict({"layers": stack})
        self.post_layernorm = nn.LayerNorm(hidden, EPS)
        for unused in (*stack[self.used :], self.post_layernorm):
            unused.requires_grad_(False)
        initialise(self, hidden, layers)

    def forward(self, pixels_NCYX: Tensor) -> Tensor:
        x_NSC = self.pre_layrnorm(self.embeddings(pixels_NCYX))
        stack = self.encoder["layers"]
        assert isinstance(stack, nn.ModuleList)
        for layer in stack[: self.used]:
            keeps_all = not (self.recompute and torch.is_grad_enabled())
            x_NSC = layer(x_NSC) if keeps_all else checkpoint(layer, x_NSC, use_reentrant=False)
        return x_NSC[:, 1:]


@torch.no_grad()
def initialise(tower: nn.Module, hidden: int, layers: int) -> None:
    """CLIP's initial weights: normal, biases zero.

    The standard deviations are those of huggingface/transformers 5.23, ``CLIPPreTrainedModel._init_weights``.
    """
    residual = hidden**-0.5 * (2 * layers) ** -0.5
    deviations = {
        "class_embedding": hidden**-0.5,
        "patch_embedding.weight": 0.02,
        "position_embedding.weight": 0.02,
        **dict.fromkeys(("q_proj.weight", "k_proj.weight", "v_proj.weight", "fc2.weight"), residual),
        "out_proj.weight": hidden**-0.5,
        "fc1.weight": (2 * hidden) ** -0.5,
    }
    for name, parameter in tower.named_parameters():
        deviation = next((std for ending, std in deviations.items() if name.endswith(ending)), None)
        if deviation is not None:
            parameter.normal_(std=deviation)
        elif name.endswith("bias"):
            parameter.zero_()
