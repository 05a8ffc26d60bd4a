"""What a run leaves on disk, and what it says of damaged, foreign or full places."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from arithmetic import RECIPE, phi3kit

from phi3kit import UserError
from phi3kit.phases.run_folder import write


def run(folder: Path, *extra: str, out: str = "run") -> str:
    done = phi3kit(folder, "fit", "--recipe", "recipe.yaml", "--out", out, *extra)
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("phi3kit: error")]
    assert (done.returncode == 0) == (not lines), done.stderr
    return lines[0] if lines else ""


def test_a_run_writes_its_recipe_weights_report_and_logs(arithmetic: Path) -> None:
    assert run(arithmetic) == ""
    folder = arithmetic / "run"
    report = json.loads((folder / "report.json").read_text())
    assert report["after"]["loss"] < report["before"]["loss"] - 0.3
    assert report["steps"] == 30
    assert list(folder.glob("tensorboard/events*"))
    header = (folder / "config.yaml").read_text().splitlines()[:2]
    assert "GroupedQueryAttention (phi3kit" in header[1]
    # The saved recipe repeats the run, to the bit.
    again = phi3kit(arithmetic, "fit", "--recipe", "run/config.yaml", "--out", "again")
    assert again.returncode == 0, again.stderr
    assert (arithmetic / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    # validate and test measure what the report says.
    for verb in ("validate", "test"):
        measured = phi3kit(arithmetic, verb, "--recipe", "run/config.yaml")
        assert measured.returncode == 0, measured.stderr
        assert json.loads(measured.stdout)["loss"] == pytest.approx(report["after"]["loss"], abs=1e-6)
    # The same place with another recipe is refused, and names what differs.
    error = run(arithmetic, "--seed", "7")
    assert "differs in seed" in error
    assert (folder / "done.json").exists()
    # A damaged checkpoint is one line.
    (folder / "done.json").unlink()
    newest = sorted(folder.glob("checkpoints/*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    error = run(arithmetic)
    assert "is damaged" in error
    assert newest.name in error
    newest.unlink()
    assert run(arithmetic) == ""


def test_user_mistakes_are_one_line_each(arithmetic: Path) -> None:
    assert "no run at" in run(arithmetic, "--start_from", "nowhere", out="a")
    assert "trainer.max_steps" in run(arithmetic, "--trainer.max_steps", "-1", out="b")
    assert "300 ids, net.dims.vocab_size is 50" in run(arithmetic, "--net.dims.vocab_size", "50", out="c")
    recipe = {**RECIPE, "data": {"class_path": "TokenStream", "init_args": {
        "folder": "nodata", "part": "web", "context": 32, "batch_size": 2}}}  # fmt: skip
    (arithmetic / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "there is no prepared data at nodata" in run(arithmetic, out="d")


def test_a_full_disk_loses_nothing_saved_before(tmp_path: Path) -> None:
    target = tmp_path / "state.ckpt"
    write(target, lambda partial: torch.save({"step": 1}, partial))

    def fill(partial: Path) -> None:
        with open("/dev/full", "wb") as full:
            full.write(b"x" * 100_000)

    with pytest.raises(UserError, match=r"the disk is full while saving .*state\.ckpt; earlier files are whole"):
        write(target, fill)
    assert torch.load(target, weights_only=True) == {"step": 1}
    assert os.listdir(tmp_path) == ["state.ckpt"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_really_full_disk_in_the_middle_of_a_run(arithmetic: Path) -> None:
    disk = arithmetic / "small"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=1500k tmpfs {disk} 2>/dev/null"):
        pytest.skip("cannot mount a tmpfs here")
    try:
        error = run(arithmetic, "--checkpoint_every", "1", "--trainer.max_steps", "200", out="small/run")
        if error:  # two checkpoints and a partial one do not fit
            assert "the disk is full while saving" in error
        whole = sorted((disk / "run" / "checkpoints").glob("*.ckpt"))
        assert whole
        for checkpoint in whole:
            torch.load(checkpoint, weights_only=True)
        assert error
    finally:
        os.system(f"umount {disk}")
