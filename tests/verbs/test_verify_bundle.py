"""What `verify` says of bundles that are sealed and wrong, moved, or made in ways that must be gone again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from phi3kit import UserError, bundle
from phi3kit import recipe as recipes
from phi3kit.cli import main
from phi3kit.export import Program, assemble
from phi3kit.export.stream import Stream
from phi3kit.text import load_tokenizer
from phi3kit.verbs import export, verify
from phi3kit.verbs.export_order import read_order

IDS = [5, 9, 40, 41, 42, 43]


@pytest.fixture
def away(tiny_bundle, tmp_path) -> Path:
    """A copy whose run is nowhere: the points that need no net."""
    folder = tmp_path / "away"
    shutil.copytree(tiny_bundle, folder)
    resealed(folder)
    return folder


def resealed(folder: Path, **changed: Any) -> None:
    """Seal what is there now; the run it names is gone."""
    about = json.loads((folder / "bundle.json").read_text())
    origin = about["origin"] | {"export": about["origin"]["export"].replace("start_from: ", "start_from: gone")}
    kept = {name: value for name, value in about.items() if name not in ("phi3kit_bundle", "files", "sha256")}
    bundle.seal(folder, kept | {"origin": origin} | changed)


def test_moved_away_from_its_run(away, capsys):
    assert main(["verify", str(away)]) == 0
    printed = capsys.readouterr().out
    assert "4 logits     not run  its run gone" in printed
    assert "is not here; name it with --run" in printed
    assert "compared with the same file read by Hugging Face's tokenizers" in printed
    assert printed.count(" passed ") >= 4
    assert "holds; not run: points 4, 5" in printed
    assert printed.endswith(f"report: {away.with_name('away-verification') / 'verification.html'}\n")


def test_a_fault_is_told_and_shown(away, capsys, tmp_path):
    config = json.loads((away / "tokenizer_config.json").read_text())
    (away / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "</s>"}))
    resealed(away)
    assert main(["verify", str(away), "--report", str(tmp_path / "report")]) == 1
    printed = capsys.readouterr().out
    assert "6 template   failed" in printed
    assert "FAULT: tokenizer_config.json: eos_token is '</s>', not '<|end|>'" in printed
    page = (tmp_path / "report" / "verification.html").read_text()
    assert "The proof failed; not run" in page
    assert "eos_token is &#x27;&lt;/s&gt;&#x27;" in page
    assert not away.with_name("away-verification").exists()


def test_another_run(away, tiny_run, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    state = load_file(run / "model.safetensors")
    state["model.norm.weight"] += 1
    save_file(state, run / "model.safetensors", metadata={"format": "pt"})
    assert main(["verify", str(away), "--run", str(run)]) == 0
    assert f"4 logits     not run  the weights in {run} are not those it was made from" in capsys.readouterr().out


def test_what_the_user_got_wrong(away, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    for options, message in (
        (["--run", "nowhere"], "--run: there is no run at nowhere"),
        (
            ["--report", str(tmp_path / "file")],
            f"cannot write a report to {tmp_path / 'file'}: File exists; give another",
        ),
    ):
        assert main(["verify", str(away), *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def made(tmp_path: Path, tokenizer: Path, **content: Any) -> tuple[bundle.Bundle, Any]:
    """A bundle without a program, of a recipe, and what the recipe asks for."""
    file, folder = tmp_path / "export.yaml", tmp_path / "bundle"
    file.write_text(json.dumps({"name": "tiny", "out": str(tmp_path / "out"), **content}))
    recipe = recipes.read("export", export.declare, ["--recipe", str(file)])
    order = read_order(recipe)
    folder.mkdir()
    assemble.write_tokenizer(folder, load_tokenizer(tokenizer))
    about = {"model": "none", "tokenizer": assemble.TOKENIZER}
    bundle.seal(folder, about | {"origin": assemble.origin(order.source, recipe.text())})
    return bundle.read(folder), order


def test_a_net_fitted_to_text_is_made_again(tiny_run, memorised, tmp_path, monkeypatch):
    """GPTQ depends on the text; without it there is nothing to compare with."""
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"{q} {a} " * 40}) + "\n" for q, a in memorised.items()))
    quantizer = {"class_path": "GPTQ", "init_args": {"group_size": 32}}
    content = {"start_from": str(tiny_run), "quantizer": quantizer, "calibration": str(text), "calibration_tokens": 512}
    found, order = made(tmp_path, tiny_run / "tokenizer", **content)
    program, tokenizer, missing = verify._origin(found, None)
    assert missing == ""
    assert tokenizer.fingerprint == load_tokenizer(tiny_run / "tokenizer").fingerprint
    net = Stream(order.source, order.quantizer, tmp_path / "kept", order.calibration).run()
    assert torch.equal(program.every_logit(IDS), Program(net, program.context).every_logit(IDS))
    text.unlink()
    program, _, missing = verify._origin(found, None)
    assert program is None
    assert missing.startswith("the quantized net cannot be made again here: calibration: there is nothing at")


def test_random_weights_are_drawn_again(tiny_run, tmp_path):
    import yaml

    net = yaml.safe_load((tiny_run / "config.yaml").read_text())["net"]
    found, order = made(tmp_path, tiny_run / "tokenizer", random=7, net=net)
    program, _, missing = verify._origin(found, None)
    assert missing == ""
    assert torch.equal(program.net.norm.weight, order.source.tensor("norm.weight"))
    name = "layers.1.mlp.down_proj.weight"
    assert torch.equal(program.net.get_parameter(name), order.source.tensor(name).float())
    with pytest.raises(UserError, match="--run: this bundle's weights were drawn at random, by its recipe"):
        verify._origin(found, tiny_run)
