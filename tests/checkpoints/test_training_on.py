"""The whole way: a public folder is converted, trained on by `fit`, written back, and opened in transformers."""

from __future__ import annotations

import json

import torch
import yaml
from arithmetic import RECIPE, write_arithmetic
from public_checkpoints import MODELS, tensors, write_checkpoint
from transformers import AutoModelForCausalLM

from phi3kit.cli import main
from phi3kit.model.load import load_run
from phi3kit.model.stored import open_stored


def test_a_public_checkpoint_learns_and_goes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(write_arithmetic(tmp_path))
    config = {**MODELS["phi-4-mini"], "vocab_size": 320}
    public = write_checkpoint(tmp_path / "public", config, tensors(config))
    (public / "tokenizer.json").write_bytes((tmp_path / "tokenizer" / "tokenizer.json").read_bytes())
    assert main(["convert", "public", "converted"]) == 0
    recipe = {name: RECIPE[name] for name in ("verb", "phase", "data", "trainer")}
    recipe |= {"base": "converted/config.yaml", "start_from": "converted"}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe))
    for out in ("first", "second"):
        steps = ["--start_from", "first"] if out == "second" else []
        assert main(["fit", "--recipe", "train.yaml", "--out", out, "--trainer.max_steps", "12", *steps]) == 0
    report = json.loads((tmp_path / "first" / "report.json").read_text())
    assert report["after"]["loss"] < report["before"]["loss"]
    assert main(["convert", "second", "back", "--dtype", "bfloat16"]) == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == config
    before, after = open_stored(public), open_stored(tmp_path / "back")
    assert after.place == before.place
    assert after.forms == before.forms
    name = "model.layers.1.mlp.down_proj.weight"
    assert not torch.equal(after.tensor(name), before.tensor(name))
    theirs = AutoModelForCausalLM.from_pretrained("back", dtype=torch.float32, attn_implementation="eager").eval()
    ours = load_run(tmp_path / "second").bfloat16().float()
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        difference = (theirs(tokens).logits - ours(tokens)).abs().max()
        assert difference <= 1e-4 * ours(tokens).abs().max()
