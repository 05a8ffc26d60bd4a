"""Before a conversion a folder's own tokenizer is asked for its ids; adapters and empty folders at the same door."""

from __future__ import annotations

import pytest
import torch
from public_checkpoints import BASE, write_checkpoint
from safetensors.torch import save_file
from tokenizer_shapes import shapes, with_words

from phi3kit.checkpoints import convert
from phi3kit.checkpoints.tokenizer_door import compare_tokenizers
from phi3kit.checkpoints.tokenizer_files import read_tokenizer
from phi3kit.errors import UserError
from phi3kit.testing import tiny
from phi3kit.text import HuggingFaceTokenizer

SHAPES = shapes()


@pytest.mark.parametrize("shape", ["prepend", "first", "bytes"])
def test_the_same_ids_are_said_in_a_line(shape, tmp_path):
    (tmp_path / "tokenizer.json").write_text(with_words(SHAPES[shape], "zwitterion", "<think>"))
    lines = compare_tokenizers(tmp_path, read_tokenizer(tmp_path, 600))
    assert lines == ["tokenizer: the same ids as in transformers for 10 texts"]


def test_other_ids_are_said_in_a_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text(SHAPES["prepend"].to_str())
    (line,) = compare_tokenizers(tmp_path, HuggingFaceTokenizer.from_content(SHAPES["never"].to_str()))
    assert line.startswith("tokenizer: 8 of 8 texts have other ids than in transformers: 'Where is the harbour?")


def test_convert_says_it_and_names_an_adapter(tmp_path):
    public = write_checkpoint(tmp_path / "public", BASE)
    (public / "tokenizer.json").write_text(tiny.tokenizer(288).content)
    save_file({"lora": torch.zeros(1)}, public / "adapter_model.safetensors")
    (tmp_path / "run").mkdir()  # an empty folder is taken
    lines = convert(public, tmp_path / "run")
    assert "tokenizer: the same ids as in transformers for 8 texts" in lines
    assert "the adapter's training is not in this run: merge it into the weights first, then convert those" in lines
    with pytest.raises(UserError, match="run is there already"):
        convert(public, tmp_path / "run")


def test_a_folder_with_an_adapter_alone(tmp_path):
    public = write_checkpoint(tmp_path / "public", BASE)
    for path in public.glob("model*"):
        path.unlink()
    save_file({"lora": torch.zeros(1)}, public / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"has only an adapter, adapter_model\.safetensors; merge it into its model's"):
        convert(public, tmp_path / "run")
