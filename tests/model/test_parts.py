"""A part of a net begins with the weights of a folder of its own (CLIP's, for one)."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from phi3kit import UserError
from phi3kit.model import weights
from phi3kit.testing import tiny

PART = "layers.1.mlp"


@pytest.fixture
def folder(tmp_path):
    other = tiny.net(seed=9)
    state = {name: tensor.clone() for name, tensor in other.layers[1].mlp.state_dict().items()}
    save_file({**state, "text_model.unused": torch.zeros(3)}, tmp_path / "model.safetensors")
    return tmp_path


def test_the_part_is_replaced_and_nothing_else(folder):
    net, before, other = tiny.net(), tiny.net().state_dict(), tiny.net(seed=9).state_dict()
    weights.load_part(net, PART, folder)
    for name, tensor in net.state_dict().items():
        wanted = other if name.startswith(PART) else before
        assert torch.equal(tensor, wanted[name]), name


def test_what_does_not_fit_is_one_line(folder, tmp_path):
    with pytest.raises(UserError, match=r"no part 'vision'; names begin with embed_tokens, layers, norm, lm_head"):
        weights.load_part(tiny.net(), "vision", folder)
    with pytest.raises(UserError, match=r"does not hold layers\.1: it lacks input_layernorm"):
        weights.load_part(tiny.net(), "layers.1", folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no weights at"):
        weights.load_part(tiny.net(), PART, tmp_path / "empty")
    save_file(
        {"gate_up_proj.weight": torch.zeros(2, 2), "down_proj.weight": torch.zeros(2)}, folder / "model.safetensors"
    )
    with pytest.raises(UserError, match=r"gate_up_proj.weight is \[2, 2\]"):
        weights.load_part(tiny.net(), PART, folder)
