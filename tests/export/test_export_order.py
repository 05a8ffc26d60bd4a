"""Where an export's weights and tokenizer come from: a run, a public folder, or a random draw of the true shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phi3kit import UserError
from phi3kit import recipe as recipes
from phi3kit.checkpoints import convert
from phi3kit.checkpoints.source import PublicSource
from phi3kit.export.room import room_for
from phi3kit.model.source import RandomSource, RunSource
from phi3kit.text import load_tokenizer
from phi3kit.verbs import export
from phi3kit.verbs.export_order import read_order


def order(tmp_path: Path, **content: object):
    file = tmp_path / "export.yaml"
    file.write_text(json.dumps({"name": "tiny", "out": str(tmp_path / "out"), **content}))
    return read_order(recipes.read("export", export.declare, ["--recipe", str(file)]))


def test_a_run_and_its_public_folder_are_one_model(tiny_run, tmp_path):
    public = tmp_path / "public"
    convert(tiny_run, public)
    run, folder = order(tmp_path, start_from=str(tiny_run)), order(tmp_path, start_from=str(public))
    assert isinstance(run.source, RunSource)
    assert isinstance(folder.source, PublicSource)
    assert folder.source.section["dims"] == run.source.section["dims"]
    assert folder.tokenizer.encode("Why is the sky blue?") == run.tokenizer.encode("Why is the sky blue?")
    assert run.tokenizer.fingerprint == load_tokenizer(tiny_run / "tokenizer").fingerprint
    for name in run.source.net.state_dict():
        assert (folder.source.tensor(name) == run.source.tensor(name)).all()


def test_phi3_mini_at_its_true_size_by_recipe(repository, tmp_path):
    file = repository / "recipes" / "phi3-mini" / "random-3.8b.yaml"
    found = read_order(recipes.read("export", export.declare, ["--recipe", str(file), "--out", str(tmp_path / "out")]))
    assert isinstance(found.source, RandomSource)
    assert found.source.net.parameter_count() == 3_821_079_552
    assert found.source.tensor("layers.0.mlp.down_proj.weight").float().std() == pytest.approx(0.02 / 8, rel=0.01)
    assert found.tokenizer.vocab_size <= 512
    assert room_for(found.source.section, found.quantizer).memory < 8e9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "the recipe lacks start_from"),
        ({"random": 0}, "random weights are drawn for a net, which the recipe lacks; add base: net.yaml"),
        ({"start_from": "run", "random": 0}, "start_from names weights and random draws others; leave one of them out"),
        ({"start_from": "nowhere"}, "start_from: there is no run at nowhere"),
    ],
)
def test_weights_that_are_not_there(content, message, tmp_path):
    with pytest.raises(UserError, match=message):
        order(tmp_path, **content)
