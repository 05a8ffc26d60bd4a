"""The same program on an emulated ARM processor: what is needed, and that a difference would be seen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from phi3kit import bundle
from phi3kit.cli import main
from phi3kit.export import arm
from phi3kit.export.runner import Runner

ROOT = os.environ.get("PHI3KIT_ARM")
STEP = 0.01
PROMPTS = [[5, 9, 33], [7, 8]]


def test_without_a_prepared_folder_one_line_says_how(tiny_bundle, tmp_path, capsys):
    assert main(["verify", str(tiny_bundle), "--arm", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path} has no root and no site and no stubs; prepare it with mobile/arm.py" in error


def test_without_qemu_one_line_says_what_to_install(tiny_bundle, tmp_path, capsys, monkeypatch):
    for name in ("root", "site", "stubs"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(arm, "QEMU", "qemu-of-another-world")
    assert main(["verify", str(tiny_bundle), "--arm", str(tmp_path)]) == 2
    assert "qemu-of-another-world is not installed; apt-get install qemu-user-static" in capsys.readouterr().err


def emulated_here(shift: float, other: int | None):
    """A stand-in for the emulation that runs the program here, and may move its logits or change an answer."""

    def emulate(root: Path, file: Path) -> None:
        work = json.loads(file.read_text())
        here = arm._Here(Path(work["model"]))
        torch.save([here.logits(ids) + shift for ids in work["sequences"]], work["logits"])
        runner = Runner(Path(work["model"]), here.logits([1]).shape[1], file.parent)
        answers = []
        for prompt in PROMPTS:
            runner.reset()
            ids = runner.generate(prompt, work["new_tokens"]).ids
            answers.append(ids if other is None else [*ids[:3], other])
        Path(work["answers"]).write_text(json.dumps(["".join(f"[t{i}]" for i in ids) for ids in answers]))

    return emulate


@pytest.mark.parametrize(
    ("shift", "other", "faults"), [(0.0, None, 0), (STEP / 2, None, 0), (2 * STEP, None, 1), (0.0, 2, 2)]
)
def test_differences_are_seen(tiny_bundle, monkeypatch, shift, other, faults):
    found = bundle.read(tiny_bundle)
    monkeypatch.setattr(arm, "_emulate", emulated_here(shift, other))
    check = arm.check_arm(Path("nowhere"), found.model, PROMPTS, found.about["vocab_size"], STEP)
    assert len(check["faults"]) == faults, check["faults"]
    assert check["largest_difference"] == pytest.approx(shift, abs=1e-5)
    assert check["tokens"] >= 5
    assert check["positions"] == check["tokens"] + 5 + 2


@pytest.mark.slow
@pytest.mark.skipif(ROOT is None, reason="PHI3KIT_ARM names no folder that mobile/arm.py prepared")
def test_an_emulated_processor_says_the_same(tiny_bundle, tmp_path, capsys):
    assert main(["verify", str(tiny_bundle), "--arm", str(ROOT), "--report", str(tmp_path)]) == 0
    (point,) = [p for p in json.loads((tmp_path / "verification.json").read_text())["points"] if p["name"] == "arm"]
    assert point["status"] == "passed"
    assert point["numbers"]["positions"] > 20
    assert point["numbers"]["largest_difference"] <= point["numbers"]["activation_step"]
    assert point["numbers"]["differences"] == []
