"""A run killed with SIGKILL and started again equals an uninterrupted one: weights bit by bit, samples too."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from arithmetic import RECIPE, command, environment, phi3kit

STEPS = 150


def write_recipe(folder: Path, workers: int) -> None:
    recipe = json.loads(json.dumps(RECIPE))
    recipe["checkpoint_every"] = 2  # most of the time is spent saving: kills hit it
    recipe["trainer"]["max_steps"] = STEPS
    recipe["data"]["init_args"]["num_workers"] = workers
    recipe["trainer"]["callbacks"] = [{"class_path": "SampleLog", "init_args": {"path": "samples.jsonl"}}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def weights_of(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def samples(folder: Path) -> dict[int, list[int]]:
    """What every step saw; a step made twice (once before, once after a kill) must have seen the same."""
    seen: dict[int, list[int]] = {}
    for line in (folder / "samples.jsonl").read_text().splitlines():
        entry = json.loads(line)
        assert seen.setdefault(entry["step"], entry["samples"]) == entry["samples"]
    return seen


def train_under_fire(folder: Path, kills: int, seed: int) -> int:
    """Start the run, kill it at random moments `kills` times, then let it end; returns kills that hit."""
    draw, hits = random.Random(seed), 0
    for _ in range(kills):
        process = subprocess.Popen(
            command("fit", "--recipe", "recipe.yaml", "--out", "run"),
            cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until_training(folder, process)
        time.sleep(draw.uniform(0.0, 0.6))
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = phi3kit(folder, "fit", "--recipe", "recipe.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    return hits


def wait_until_training(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until this process has made a step."""
    log = folder / "samples.jsonl"
    size = log.stat().st_size if log.exists() else 0
    while process.poll() is None and (log.stat().st_size if log.exists() else 0) <= size:
        time.sleep(0.02)


@pytest.mark.parametrize(("workers", "kills"), [(0, 3), (2, 2)])
def test_killed_and_resumed_equals_uninterrupted(arithmetic: Path, workers: int, kills: int) -> None:
    compare(arithmetic, workers, kills, seed=workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_many_kills(arithmetic: Path, workers: int) -> None:
    compare(arithmetic, workers, kills=12, seed=100 + workers)


def compare(folder: Path, workers: int, kills: int, seed: int) -> None:
    write_recipe(folder, workers)
    whole = phi3kit(folder, "fit", "--recipe", "recipe.yaml", "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    expected = samples(folder)
    (folder / "samples.jsonl").unlink()
    hits = train_under_fire(folder, kills, seed)
    assert hits, "no kill came in time"
    assert weights_of(folder / "run") == weights_of(folder / "whole")
    assert samples(folder) == expected
    assert sorted(expected) == list(range(STEPS))
    metrics = [line.split(",")[0] for line in (folder / "run" / "metrics.csv").read_text().splitlines()]
    assert metrics == ["step", *map(str, range(10, STEPS + 1, 10))]
