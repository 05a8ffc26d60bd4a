"""`phi3kit run`: in order, skipping what is done; a change runs that step and those after it again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from arithmetic import RECIPE, command, environment, phi3kit


@pytest.fixture
def road(arithmetic: Path) -> Path:
    """A folder of three recipes: train, train on, prefer."""
    folder = arithmetic / "recipes" / "road"
    folder.mkdir(parents=True)
    net = {key: RECIPE[key] for key in ("net", "tokenizer", "trainer", "phase", "checkpoint_every")}
    (folder / "net.yaml").write_text(yaml.safe_dump(net))
    fit: dict[str, Any] = {"base": "net.yaml", "verb": "fit", "minutes": 0.1, "data": RECIPE["data"]}
    (folder / "1-first.yaml").write_text(yaml.safe_dump({**fit, "out": "runs/road/1"}))
    second = {**fit, "out": "runs/road/2", "start_from": "runs/road/1", "trainer": {"max_steps": 10}}
    (folder / "2-second.yaml").write_text(yaml.safe_dump(second))
    files = {"train": "preferences.jsonl", "heldout": "preferences.jsonl"}
    third = {
        **fit, "out": "runs/road/3", "start_from": "runs/road/2", "trainer": {"max_steps": 10},
        "phase": {"class_path": "DPO", "init_args": RECIPE["phase"]["init_args"]},
        "data": {"class_path": "PreferenceBatches", "init_args": {**files, "context": 48, "batch_size": 8}},
    }  # fmt: skip
    (folder / "10-third.yaml").write_text(yaml.safe_dump(third))
    return arithmetic


def run(road: Path) -> str:
    done = phi3kit(road, "run", "recipes/road", timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def times(road: Path) -> dict[str, float]:
    return {k: (road / "runs/road" / k / "done.json").stat().st_mtime for k in "123"}


def test_runs_in_order_skips_what_is_done_and_reruns_what_changed(road: Path) -> None:
    out = run(road)
    assert out.index("1-first ->") < out.index("2-second ->") < out.index("10-third ->")
    report = json.loads((road / "runs/road/report.json").read_text())
    assert list(report) == ["1-first", "2-second", "10-third"]
    assert report["1-first"]["after"]["loss"] < report["1-first"]["before"]["loss"]
    assert report["10-third"]["after"]["accuracy"] >= report["10-third"]["before"]["accuracy"]
    assert "held-out loss" in out

    first = times(road)
    out = run(road)  # run again, it does nothing
    assert out.count("done already") == 3
    assert times(road) == first

    recipe = road / "recipes/road/2-second.yaml"
    recipe.write_text(recipe.read_text().replace("max_steps: 10", "max_steps: 12"))
    listing = phi3kit(road, "run", "recipes/road", "--list").stdout.splitlines()
    assert [line.split()[2] for line in listing] == ["done", "changed", "changed"]
    run(road)
    second = times(road)
    assert second["1"] == first["1"]
    assert second["2"] > first["2"]
    assert second["3"] > first["3"]
    steps = json.loads((road / "runs/road/report.json").read_text())
    assert steps["2-second"]["steps"] == 12


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_stopped_it_goes_on_where_it_was(road: Path, blow: signal.Signals) -> None:
    recipe = road / "recipes/road/1-first.yaml"
    recipe.write_text(recipe.read_text() + "trainer: {max_steps: 400}\n")
    process = subprocess.Popen(
        command("run", "recipes/road"), cwd=road, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    while not list(road.glob("runs/road/1/checkpoints/*.ckpt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(blow)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert not (road / "runs/road/1/done.json").exists()
    if blow == signal.SIGINT:
        assert "stopped; the same command goes on from here" in errors
    out = run(road)
    assert "going on from step-" in out
    assert (road / "runs/road/3/done.json").exists()


def test_a_folder_without_recipes_is_one_line(tmp_path: Path) -> None:
    done = phi3kit(tmp_path, "run", ".")
    assert done.returncode == 2
    assert done.stderr.startswith("phi3kit: error: . holds no numbered recipes")


def test_a_step_on_two_devices_is_a_command_of_its_own(road: Path) -> None:
    """Lightning starts the second device with the first one's command line, which must not be the whole folder's."""
    second = road / "recipes" / "road" / "2-second.yaml"
    recipe = yaml.safe_load(second.read_text())
    recipe["trainer"] |= {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    second.write_text(yaml.safe_dump(recipe))
    out = run(road)
    assert out.count("2-second ->") == 1
    assert out.count("10-third ->") == 1
    report = json.loads((road / "runs/road/report.json").read_text())
    assert report["2-second"]["steps"] == 10
    assert run(road).count("done already") == 3
