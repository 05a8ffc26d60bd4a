"""Which files hold a folder's weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from phi3kit.errors import UserError
from phi3kit.model.stored import INDEX, open_stored, weight_files


def folder(path, *names):
    path.mkdir(exist_ok=True)
    for name in names:
        save_file({f"in {name}": torch.zeros(1)}, path / name)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ["model.safetensors"],
        ["model-00001-of-00001.safetensors"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ["model-01-of-02.safetensors", "model-02-of-02.safetensors"],
        ["model_00001-of-00001.safetensors"],
        ["pytorch_model-00001-of-00002.safetensors", "pytorch_model-00002-of-00002.safetensors"],
    ],
)
def test_shards_without_an_index(names, tmp_path):
    found = folder(tmp_path, *names, "consolidated.safetensors")
    assert [path.name for path in weight_files(found)] == names
    assert set(open_stored(found).place) == {f"in {name}" for name in names}


def test_the_index_names_shards_of_any_name(tmp_path):
    found = folder(tmp_path, "first.safetensors", "model-00001-of-00001.safetensors")
    (found / INDEX).write_text(
        json.dumps({"weight_map": {"in first.safetensors": "first.safetensors"}}), encoding="utf-8-sig"
    )
    assert [path.name for path in weight_files(found)] == ["first.safetensors"]
    assert list(open_stored(found).place) == ["in first.safetensors"]


def test_a_missing_shard_and_shards_of_two_models(tmp_path):
    found = folder(tmp_path, "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match=r"lacks model-00002-of-00002\.safetensors, one of its 2 shards"):
        weight_files(found)
    folder(tmp_path, "model-00002-of-00003.safetensors")
    with pytest.raises(
        UserError, match=r"has model-00001-of-00002.* and model-00002-of-00003.*, which are shards of two"
    ):
        weight_files(found)
