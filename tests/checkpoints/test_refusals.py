"""What cannot be converted is refused in one line that names it, before anything is written."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from public_checkpoints import BASE, MODELS, tensors, write_checkpoint

from phi3kit import UserError, plugins
from phi3kit.checkpoints import convert
from phi3kit.checkpoints.layouts import FIRST_PARTY
from phi3kit.families import Layout
from phi3kit.testing import tiny

EMBEDDING, DOWN, LAST = "model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"


def changed(name, tensor):
    """The base's tensors with one replaced, or left out where it is None."""
    state = tensors(BASE) | {name: tensor}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


def refused(folder, tmp_path):
    """The message; nothing was written."""
    with pytest.raises(UserError) as caught:
        convert(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out*"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (DOWN, None, f"{DOWN} is missing, which config.json implies (1 of 15 tensors are)"),
        (DOWN, torch.ones(64, 95), f"{DOWN} is [64, 95], config.json implies [64, 96]"),
        (EMBEDDING, torch.ones(300, 64), f"{EMBEDDING} is [300, 64], config.json implies [288, 64]"),
        ("model.layers.2.mlp.down_proj.weight", torch.ones(64, 96), "model.layers.2.mlp.down_proj.weight has no place"),
        ("model.norm.bias", torch.ones(64), "model.norm.bias has no place in the net that config.json describes (1"),
        (LAST, torch.ones(64, dtype=torch.int8), f"{LAST} is I8; a quantized model cannot be converted"),
    ],
)
def test_tensors_that_contradict_the_config(tmp_path, name, tensor, message):
    assert message in refused(write_checkpoint(tmp_path / "public", BASE, changed(name, tensor)), tmp_path)


def test_a_head_of_its_own_where_the_config_says_tied(tmp_path):
    folder = write_checkpoint(tmp_path / "public", {**BASE, "tie_word_embeddings": True}, tensors(BASE))
    assert "lm_head.weight differs from model.embed_tokens.weight" in refused(folder, tmp_path)


def test_too_few_layers_in_the_config(tmp_path):
    folder = write_checkpoint(tmp_path / "public", {**BASE, "num_hidden_layers": 1}, tensors(BASE))
    assert "model.layers.1." in refused(folder, tmp_path)


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard_is_named(tmp_path, index):
    folder = write_checkpoint(tmp_path / "public", BASE, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    if not index:
        (folder / "model.safetensors.index.json").unlink()
    message = refused(folder, tmp_path)
    assert "lacks model-00002-of-00003.safetensors, one of its 3 shards; download it again" in message


def test_a_shard_cut_short_is_named(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE)
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert "model-00002-of-00002.safetensors is damaged" in refused(folder, tmp_path)


def test_an_index_that_its_shards_do_not_keep(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"][LAST] = "model-00001-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"says that {LAST} is in model-00001-of-00002.safetensors, where it is not" in refused(folder, tmp_path)
    index["weight_map"][LAST] = "../model.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model.safetensors.index.json is damaged" in refused(folder, tmp_path)


def test_a_tensor_in_two_shards(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE)
    first, second = (folder / f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    second.write_bytes(first.read_bytes())
    assert "is in model-00001-of-00002.safetensors and again in model-00002" in refused(folder, tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model-00001-of-00002.bin", "model.pt"])
def test_pickled_weights_and_how_to_convert_them(tmp_path, name):
    folder = write_checkpoint(tmp_path / "public", BASE, shards=1)
    (folder / "model.safetensors").unlink()
    torch.save(tensors(BASE), folder / name)
    message = refused(folder, tmp_path)
    assert f"has its weights in {name}, a pickle, which could run any code" in message
    assert "where you trust it, convert it in Python: import torch; " in message


def test_pickled_shards_are_counted(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE, shards=1)
    (folder / "model.safetensors").unlink()
    for number in (1, 2):
        (folder / f"pytorch_model-0000{number}-of-00002.bin").touch()
    assert "where you trust each of these 2 files, convert it in Python: " in refused(folder, tmp_path)


def test_the_conversion_that_the_refusal_of_pickles_names_works(tmp_path, monkeypatch):
    folder = write_checkpoint(tmp_path / "public", BASE, shards=1)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    torch.save(tensors(BASE), folder / "pytorch_model.bin")
    program = refused(folder, tmp_path).partition("in Python: ")[2]
    monkeypatch.chdir(folder)
    exec(program)
    assert (folder / "model.safetensors").stat().st_size == len(whole)
    convert(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "the architecture 'LlamaForCausalLM' is not known; "),
        ({"architectures": []}, "config.json names no architecture"),
        ({"quantization_config": {"bits": 4}}, "says the weights are quantized; convert the model they were made from"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; only 'silu'"),
    ],
)
def test_configs(tmp_path, change, message):
    assert message in refused(write_checkpoint(tmp_path / "public", {**BASE, **change}, tensors(BASE)), tmp_path)


def test_an_unknown_architecture_is_told_the_installed_ones(tmp_path):
    message = refused(write_checkpoint(tmp_path / "p", {**BASE, "architectures": ["GPT2LMHeadModel"]}), tmp_path)
    for component in plugins.load().of(Layout):
        assert all(name in message for name in component.cls().architectures)


@pytest.mark.parametrize("architecture", FIRST_PARTY)
def test_an_architecture_of_a_plugin_that_is_not_installed(tmp_path, monkeypatch, architecture):
    (ours,) = (c for c in plugins.load().components if c.name == "Phi3Layout")
    monkeypatch.setattr(plugins, "load", lambda: plugins.Registry((ours,), ()))
    message = refused(write_checkpoint(tmp_path / "p", {**BASE, "architectures": [architecture]}), tmp_path)
    plugin = FIRST_PARTY[architecture]
    assert f"{architecture} comes with the plugin {plugin}, which is not installed; pip install" in message


def test_what_is_no_folder_of_either_kind(tmp_path):
    assert f"there is no folder {tmp_path / 'nowhere'}" in refused(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    message = refused(tmp_path / "empty", tmp_path)
    assert "is neither a checkpoint folder (no config.json) nor a run (no config.yaml)" in message
    (tmp_path / "empty" / "config.json").write_text("{cut")
    assert "config.json is not JSON" in refused(tmp_path / "empty", tmp_path)
    (tmp_path / "empty" / "config.json").write_text("[]")
    assert "config.json holds a list; an object is expected" in refused(tmp_path / "empty", tmp_path)
    (tmp_path / "empty" / "config.json").write_text(json.dumps(BASE))
    assert "empty has no weights; model.safetensors or its shards are expected" in refused(tmp_path / "empty", tmp_path)


def test_a_tokenizer_with_more_ids_than_rows(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE)
    (folder / "tokenizer.json").write_text(tiny.tokenizer(300).content)
    assert "the tokenizer has 300 ids, config.json says 288" in refused(folder, tmp_path)


def test_a_damaged_tokenizer(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE)
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json is not a tokenizer.json" in refused(folder, tmp_path)


def test_an_out_that_is_there(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE)
    (tmp_path / "out/something").mkdir(parents=True)
    with pytest.raises(UserError, match=r"out is there already; give another folder or remove it"):
        convert(folder, tmp_path / "out")


def test_a_type_for_a_checkpoint(tmp_path):
    folder = write_checkpoint(tmp_path / "public", BASE)
    with pytest.raises(UserError, match=r"--dtype is for writing a run"):
        convert(folder, tmp_path / "out", torch.float32)


@pytest.fixture
def run(tmp_path):
    folder = write_checkpoint(tmp_path / "public", MODELS["mini-128k"])
    convert(folder, tmp_path / "run")
    return tmp_path / "run"


def with_net(run, **changes):
    recipe = yaml.safe_load((run / "config.yaml").read_text())
    recipe["net"] |= changes
    (run / "config.yaml").write_text(yaml.safe_dump(recipe))


def test_a_net_that_no_layout_describes(run, tmp_path):
    with_net(run, logit_scale=0.5)
    message = refused(run, tmp_path)
    assert "no public layout is known for a net of these components; " in message
    assert "Phi3ForCausalLM" in message


def test_a_run_whose_weights_are_not_its_nets(run, tmp_path):
    with_net(run, dims={**BASE_DIMS, "intermediate_size": 95})
    assert "gate_up_proj.weight is [192, 64], the recipe's net wants [190, 64]" in refused(run, tmp_path)
    with_net(run, dims={**BASE_DIMS, "n_layers": 3})
    assert "holds another net: missing ['layers.2." in refused(run, tmp_path)


BASE_DIMS = {
    "vocab_size": 288, "hidden_size": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "intermediate_size": 96,
    "context": 128,
}  # fmt: skip


def test_a_run_without_weights(run, tmp_path):
    (run / "model.safetensors").unlink()
    assert "no weights at" in refused(run, tmp_path)
