"""A run remembers its data and does not go on over other data; what is finished says that its data has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from arithmetic import RECIPE

from phi3kit.cli import main
from phi3kit.phases import Phase
from phi3kit.verbs.data_prints import changed, fingerprint, fingerprints


def fit(out: str = "run") -> int:
    recipe = {**RECIPE, "checkpoint_every": 2, "trainer": {**RECIPE["trainer"], "max_steps": 5}}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    return main(["fit", "--recipe", "recipe.yaml", "--out", out])


def stopped(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A run that ended at a step, as a kill would end it."""

    def die(phase: Phase, optimizer: object) -> None:
        if phase.trainer.global_step == step:
            raise KeyboardInterrupt
        usual(phase, optimizer)

    usual = Phase.on_before_optimizer_step
    with monkeypatch.context() as patch:
        patch.setattr(Phase, "on_before_optimizer_step", die)
        assert fit() == 130


def test_a_stopped_run_does_not_go_on_over_other_data(arithmetic: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(arithmetic)
    stopped(monkeypatch, 3)
    chats = Path("chat.jsonl")
    before = chats.read_text()
    chats.write_text(before + before.splitlines()[0] + "\n")
    assert fit() == 2
    assert "chat.jsonl has changed since it was trained on, so the run cannot go on" in capsys.readouterr().err
    chats.write_text(before)
    assert fit() == 0
    chats.write_text(before + "\n")
    capsys.readouterr()
    assert fit() == 0
    out = capsys.readouterr().out
    assert "run is done already" in out
    assert "chat.jsonl has changed since it was trained on; give another --out" in out


def test_a_run_that_has_learned_nothing_yet_takes_the_data_as_it_is(arithmetic: Path, monkeypatch) -> None:
    monkeypatch.chdir(arithmetic)
    stopped(monkeypatch, 0)
    first = json.loads(Path("run/start.json").read_text())
    rows = Path("chat.jsonl").read_text().splitlines(keepends=True)
    Path("chat.jsonl").write_text("".join(rows[:10]))
    assert fit() == 0
    assert json.loads(Path("run/start.json").read_text()) != first
    assert changed(Path("run")) == []


def test_prepared_folders_are_known_by_what_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    assert fingerprint(folder) == ""
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"outputs": {"a": 1}, "versions": {"python": "3.11"}}))
    first = fingerprint(folder)
    manifest.write_text(json.dumps({"versions": {"python": "3.12"}, "outputs": {"a": 1}}))
    assert fingerprint(folder) == first != ""
    manifest.write_text(json.dumps({"outputs": {"a": 2}}))
    assert fingerprint(folder) != first


def test_whatever_a_recipe_names_is_looked_at(tmp_path: Path) -> None:
    """Data of strangers too: every file anywhere in the options; words and numbers are no files."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    content = {
        "class_path": "their.Batches",
        "init_args": {"files": [str(tmp_path / "a")], "deep": {"b": tmp_path / "b"}},
    }
    content["init_args"] |= {"part": "web", "context": 128, "odd": "x" * 300, "null": None, "zero": "a\0b"}
    assert list(fingerprints(content)) == ["data.init_args.files.0", "data.init_args.deep.b"]
