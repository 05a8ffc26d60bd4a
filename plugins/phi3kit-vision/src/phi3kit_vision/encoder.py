"""Phi-3-vision's encoder: CLIP features of every view, merged 2 x 2, laid out with separators, projected.

Special: the crops of an image are put back into one large map before its rows are read, each row ends with a
learned vector (``sub_GN``), another (``glb_GN``) stands between the crops and the view of the whole, and the
projector acts on the separators too (order "sub_glb" of the public `image_embedding_phi3_v.py`).

Shapes: V views of all images, P patches of a view, C CLIP width, M = 4 C merged width, s = side of a view in merged
patches, y x x crops of one image, N rows, D hidden.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import final

import torch
from torch import Tensor, nn

from phi3kit import Dims, Pictures, UserError
from phi3kit.families import VisionEncoder
from phi3kit_vision.clip import CLIPTower
from phi3kit_vision.device import FixedGridVision
from phi3kit_vision.hd import count_rows


@final
class CLIPVision(VisionEncoder):
    """CLIP ViT-L/14-336 with HD crops and an MLP projector, as in Phi-3-vision; smaller sizes for experiments.

    Projector and separators always learn. Separators begin as zeros, the projector like the decoder's matrices.

    Args:
        dims: the net's sizes.
        hidden: CLIP's width.
        layers: CLIP's layers.
        heads: CLIP's attention heads per layer.
        intermediate: inner width of CLIP's MLPs.
        image: side of a view, in pixels.
        patch: side of a patch, in pixels.
        feature_layer: which of CLIP's hidden states is taken, counted like a Python index.
        frozen: CLIP does not learn, which saves its activations' memory.
        views_at_once: views that go through CLIP together; bounds the memory where no gradient is wanted.
        recompute: in training keep only the input of each of CLIP's layers and compute the rest again for the
            gradient: a third more work, far less memory (arXiv 1604.06174).
        init_std: standard deviation of the projector's initial matrices.
    """

    def __init__(
        self,
        dims: Dims,
        hidden: int = 1024,
        layers: int = 24,
        heads: int = 16,
        intermediate: int = 4096,
        image: int = 336,
        patch: int = 14,
        feature_layer: int = -2,
        frozen: bool = False,
        views_at_once: int = 64,
        recompute: bool = False,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        if image % (2 * patch):
            raise UserError(f"image {image} is not cut evenly by 2 x 2 patches of {patch}; change one of them")
        self.image, self.side = image, image // patch // 2
        self.frozen, self.views_at_once = frozen, views_at_once
        tower = CLIPTower(hidden, layers, heads, intermediate, image, patch, feature_layer, recompute)
        if frozen:
            tower.requires_grad_(False)
        self.img_processor = nn.ModuleDict({"vision_model": tower})
        merged, width = 4 * hidden, dims.hidden_size
        self.img_projection = nn.Sequential(nn.Linear(merged, width), nn.GELU(), nn.Linear(width, width))
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, merged))
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, merged))
        for name, parameter in self.img_projection.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=init_std)

    @property
    def view_size(self) -> int:
        return self.image

    def count(self, grid: tuple[int, int]) -> int:
        return count_rows(grid, self.side)

    def on_device(self, grid: tuple[int, int]) -> nn.Module:
        return FixedGridVision(self, grid)

    def forward(self, pictures: Pictures) -> Tensor:
        features_VPC = self.features(pictures.pixels_VCYX)
        views = [1 + rows * columns for rows, columns in pictures.grids]
        laid_out = [
            self.lay_out(image_VPC, grid)
            for image_VPC, grid in zip(features_VPC.split(views), pictures.grids, strict=True)
        ]
        return self.img_projection(torch.cat(laid_out))

    def features(self, pixels_VCYX: Tensor) -> Tensor:
        """CLIP's features of every patch, [V, P, C]."""
        if pixels_VCYX.shape[-2:] != (self.image, self.image):
            raise UserError(
                f"views have {list(pixels_VCYX.shape[-2:])} pixels, the net's vision reads "
                f"{[self.image, self.image]}; give the data the same `view`"
            )
        tower = self.img_processor["vision_model"]
        assert isinstance(tower, CLIPTower)
        pixels_VCYX = pixels_VCYX.to(tower.embeddings.patch_embedding.weight.dtype)
        with torch.no_grad() if self.frozen else nullcontext():
            return torch.cat([tower(chunk) for chunk in pixels_VCYX.split(self.views_at_once)])

    def lay_out(self, features_VPC: Tensor, grid: tuple[int, int]) -> Tensor:
        """One image's features as a sequence with separators, [N, M]: crops, glb_GN, the whole."""
        merged_VssM = self.merge(features_VPC)
        rows, columns = grid
        crops_yxssM = merged_VssM[1:].unflatten(0, (rows, columns))
        crops_YXM = crops_yxssM.permute(0, 2, 1, 3, 4).flatten(0, 1).flatten(1, 2)
        return torch.cat((self.ended(crops_YXM), self.glb_GN[0], self.ended(merged_VssM[0])))

    def merge(self, features_VPC: Tensor) -> Tensor:
        """Each 2 x 2 patches side by side in one vector, [V, s, s, M]: row in the square, column in it, channel."""
        squares = features_VPC.unflatten(1, (self.side, 2, self.side, 2))
        return squares.transpose(2, 3).flatten(3)

    def ended(self, map_YXM: Tensor) -> Tensor:
        """A map read row by row, sub_GN after each row, [Y * (X + 1), M]."""
        ends_Y1M = self.sub_GN[0].expand(len(map_YXM), 1, -1)
        return torch.cat((map_YXM, ends_Y1M), dim=1).flatten(0, 1)
