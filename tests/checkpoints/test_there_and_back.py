"""A public folder to a run and back is the same, bit for bit; what the net does not use comes along."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from public_checkpoints import BASE, INV_FREQ, MODELS, same_files, tensors, write_checkpoint
from safetensors.torch import load_file, save_file

from phi3kit import bundle
from phi3kit.checkpoints import convert
from phi3kit.checkpoints.copying import sharded
from phi3kit.export.assemble import weights_hash
from phi3kit.model import Phi3Layout, weights
from phi3kit.model.load import load_run
from phi3kit.model.stored import WEIGHTS, open_stored
from phi3kit.model.tensor_file import Form, create, forms_in
from phi3kit.testing import contracts, tiny
from phi3kit.text import load_tokenizer, save_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.mark.parametrize("name", MODELS)
def test_the_laws_of_layouts_hold_for_every_phi3(name):
    contracts.check_layout(Phi3Layout, MODELS[name], unused=[INV_FREQ])


@pytest.mark.parametrize("shards", [1, 3])
def test_everything_in_the_folder_comes_back(tmp_path, shards):
    state = tensors(BASE) | {INV_FREQ: torch.arange(8.0)}
    public = write_checkpoint(tmp_path / "public", BASE, state, shards=shards)
    witness = tmp_path / "executed"
    files = {
        "generation_config.json": '{"eos_token_id":   [32000, 32001]}',
        "modeling_phi3.py": f"import pathlib\npathlib.Path({str(witness)!r}).touch()\n",
        "README.md": "naïve ✓\r\n",
        "tokenizer_config.json": "{}",
    }
    for name, text in files.items():
        (public / name).write_bytes(text.encode())
    (public / "tokenizer.json").write_text(tiny.tokenizer(288).content)
    summary = convert(public, tmp_path / "run")
    assert "carried along, unused by the net: 1 tensors (model.layers.0.self_attn.rotary_emb.inv_freq …)" in summary
    assert "carried along, never executed: modeling_phi3.py" in summary
    assert convert(tmp_path / "run", tmp_path / "back")
    assert same_files(public, tmp_path / "back")
    assert not witness.exists()
    assert load_tokenizer(tmp_path / "run" / "tokenizer").fingerprint == tiny.tokenizer(288).fingerprint


def test_what_is_left_behind_is_said(tmp_path):
    public = write_checkpoint(tmp_path / "public", BASE)
    (public / "original").mkdir()
    (public / ".git").mkdir()
    (public / "consolidated.safetensors").touch()
    (public / "pytorch_model.bin").touch()
    assert "left behind: consolidated.safetensors, original, pytorch_model.bin" in convert(public, tmp_path / "run")


def test_a_run_has_the_numbers_and_the_recipe(tmp_path):
    public = write_checkpoint(tmp_path / "public", MODELS["phi-4-mini"])
    convert(public, tmp_path / "run")
    net = load_run(tmp_path / "run")
    assert net.lm_head.weight is net.embed_tokens.weight
    assert net.embed_tokens.weight.dtype == torch.bfloat16
    wanted = tensors(MODELS["phi-4-mini"])
    own = net.state_dict()
    assert {weights.from_hugging_face(name) for name in wanted} == own.keys() - {"lm_head.weight"}
    assert all(torch.equal(own[weights.from_hugging_face(name)], tensor) for name, tensor in wanted.items())
    recipe = (tmp_path / "run" / "config.yaml").read_text()
    assert recipe.startswith("# public (Phi3ForCausalLM), converted by phi3kit ")
    assert yaml.safe_load(recipe)["net"] == Phi3Layout().net(MODELS["phi-4-mini"])


def test_a_head_stored_beside_the_embedding_it_equals_comes_back(tmp_path):
    config = {**BASE, "tie_word_embeddings": True}
    state = tensors(config)
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    public = write_checkpoint(tmp_path / "public", config, state)
    convert(public, tmp_path / "run")
    assert "lm_head.weight" not in open_stored(tmp_path / "run").place
    convert(tmp_path / "run", tmp_path / "back")
    assert same_files(public, tmp_path / "back")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A checkpoint folder, and a run that went on from it in float32 with a longer context; paths are relative."""
    monkeypatch.chdir(tmp_path)
    state = tensors(MODELS["mini-4k"]) | {INV_FREQ: torch.arange(8.0)}
    public = write_checkpoint(tmp_path / "public", MODELS["mini-4k"], state)
    (public / "tokenizer.json").write_text(tiny.tokenizer(288).content)
    (public / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    convert(public, tmp_path / "converted")
    section = yaml.safe_load((tmp_path / "converted" / "config.yaml").read_text())["net"]
    section["position"]["init_args"]["theta"] = 20000.0
    run = tmp_path / "trained"
    run.mkdir()
    net = load_run(tmp_path / "converted", torch.float32)
    with torch.no_grad():
        net.norm.weight += 0.25
    weights.save(net, run)
    (run / "config.yaml").write_text(yaml.safe_dump({"verb": "fit", "start_from": "converted", "net": section}))
    save_tokenizer(load_tokenizer(tmp_path / "converted" / "tokenizer"), run / "tokenizer")
    return tmp_path


def test_a_run_trained_on_goes_back_to_where_it_came_from(trained):
    convert(trained / "trained", trained / "back")
    before, after = open_stored(trained / "public"), open_stored(trained / "back")
    assert after.place == before.place
    assert after.forms["model.norm.weight"].dtype == torch.float32
    assert torch.equal(after.tensor("model.norm.weight"), before.tensor("model.norm.weight").float() + 0.25)
    assert torch.equal(after.tensor(INV_FREQ), before.tensor(INV_FREQ))
    config = json.loads((trained / "back" / "config.json").read_text())
    assert config == {**BASE, "torch_dtype": "float32", "rope_theta": 20000.0}
    assert list(config) == list(BASE)
    assert json.loads((trained / "back" / "tokenizer_config.json").read_text()) == {"chat_template": CHATML}
    index = json.loads((trained / "back" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(form.bytes for form in after.forms.values())


def test_a_run_trained_on_can_be_written_in_another_type(trained):
    summary = convert(trained / "trained", trained / "back", torch.bfloat16)
    assert "BF16" in summary[0]
    before, after = open_stored(trained / "public"), open_stored(trained / "back")
    wanted = (before.tensor("model.norm.weight").float() + 0.25).bfloat16()
    assert torch.equal(after.tensor("model.norm.weight"), wanted)
    assert torch.equal(after.tensor("lm_head.weight"), before.tensor("lm_head.weight"))
    assert json.loads((trained / "back" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_tensors_are_sharded_as_large_as_allowed_and_a_sharded_run_loads(tmp_path):
    public = write_checkpoint(tmp_path / "public", BASE, shards=1)
    convert(public, tmp_path / "run")
    whole = load_run(tmp_path / "run").state_dict()
    state = load_file(tmp_path / "run" / WEIGHTS)
    headers = sharded({name: Form(x.dtype, tuple(x.shape)) for name, x in state.items()}, limit=60_000)
    sizes = [sum(form.bytes for form in forms_in(header).values()) for header in headers.values()]
    assert len(sizes) > 2
    assert max(sizes) <= 60_000
    (tmp_path / "run" / WEIGHTS).unlink()
    for name, header in headers.items():
        file = create(tmp_path / "run" / name, header)
        for tensor in file.forms:
            file.tensor(tensor).copy_(state[tensor])
    again = load_run(tmp_path / "run").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_a_folder_of_shards_without_an_index_is_read(tmp_path):
    public = write_checkpoint(tmp_path / "public", BASE, shards=3)
    (public / "model.safetensors.index.json").unlink()
    convert(public, tmp_path / "run")
    convert(tmp_path / "run", tmp_path / "back")
    assert same_files(public, tmp_path / "back")


def test_one_layer_of_another_type_stays_of_that_type(tmp_path):
    state = tensors(BASE)
    state["model.norm.weight"] = state["model.norm.weight"].float()
    public = write_checkpoint(tmp_path / "public", BASE, state)
    convert(public, tmp_path / "run")
    assert load_run(tmp_path / "run").norm.weight.dtype == torch.float32
    convert(tmp_path / "run", tmp_path / "back")
    assert same_files(public, tmp_path / "back")


def test_a_header_in_another_order_and_with_other_words_comes_back(tmp_path):
    """What other writers do: words of their own in the header, tensors in an order of their own."""
    public = write_checkpoint(tmp_path / "public", BASE, shards=1)
    state = load_file(public / WEIGHTS)
    backwards = dict(sorted(state.items(), reverse=True))
    save_file(backwards, public / WEIGHTS, metadata={"format": "pt", "made by": "someone else"})
    convert(public, tmp_path / "run")
    convert(tmp_path / "run", tmp_path / "back")
    assert same_files(public, tmp_path / "back")


def test_the_hash_of_a_runs_weights_covers_every_shard(tmp_path):
    """A bundle names the weights it was made from; those of a converted run may be sharded."""
    one, three = (write_checkpoint(tmp_path / str(shards), BASE, shards=shards) for shards in (1, 3))
    assert weights_hash(one) == bundle.sha256(one / WEIGHTS)
    before = weights_hash(three)
    last = three / "model-00003-of-00003.safetensors"
    last.write_bytes(last.read_bytes()[:-1] + b"\x01")
    assert weights_hash(three) not in (before, weights_hash(one))
