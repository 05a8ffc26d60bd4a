"""Vision training starts from the run of a language model: its weights come over, the encoder stays as it was built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recipe_folders import RECIPES, need_plugin

from phi3kit import UserError
from phi3kit.model import weights
from phi3kit.model.load import build_net

TEXT = {
    "dims": {"vocab_size": 97, "hidden_size": 32, "n_layers": 2, "n_heads": 2, "intermediate_size": 48},
    "attention": [{"class_path": "GroupedQueryAttention"}],
    "feed_forward": [{"class_path": "GatedMLP"}],
    "position": {"class_path": "RoPE"},
}
CLIP = {"hidden": 16, "layers": 2, "heads": 2, "intermediate": 32, "image": 28, "patch": 7}


def test_vision_begins_with_a_language_model(tmp_path: Path) -> None:
    need_plugin(RECIPES / "phi3-vision")
    text = build_net(TEXT)
    weights.save(text, tmp_path)
    net = build_net(TEXT | {"vision": {"class_path": "CLIPVision", "init_args": CLIP}})
    built = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    weights.load_into(net, tmp_path)
    for name, tensor in net.state_dict().items():
        origin = built[name] if name.startswith(weights.VISION) else text.state_dict()[name]
        assert torch.equal(tensor, origin), name
    # A run without vision is not taken for one with it where a whole model is read, nor the other way round.
    with pytest.raises(UserError, match="holds another net: missing"):
        weights.assign_to(
            build_net(TEXT | {"vision": {"class_path": "CLIPVision", "init_args": CLIP}}, "meta"), tmp_path
        )
    weights.save(net, tmp_path)
    with pytest.raises(UserError, match=r"holds another net: .*unexpected .*vision_embed_tokens"):
        weights.load_into(text, tmp_path)
