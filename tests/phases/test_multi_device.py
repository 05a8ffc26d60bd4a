"""Two processes train as one does with the same rows per step; files are written once; a killed run goes on.

On the CPU, with gloo: what is tested is the arithmetic of several devices and who writes what, not speed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keeping_checkpoints
import pytest
import yaml
from arithmetic import RECIPE, environment, phi3kit
from keeping_checkpoints import as_if_stopped
from safetensors.torch import load_file

STEPS = 8
NEXT_TOKEN = {"learn": RECIPE["phase"], "data": RECIPE["data"]}
PREFERENCES = {
    "learn": {
        "class_path": "DPO",
        "init_args": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}}},
    },
    "data": {
        "class_path": "PreferenceBatches",
        "init_args": {"train": "preferences.jsonl", "heldout": "preferences.jsonl", "context": 64, "batch_size": 2},
    },
}
SHARDED = {
    "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
    "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False},
}


def fit(folder: Path, out: str, learn: dict, data: dict, tied: bool = False, **trainer: object) -> Path:
    """Train for a few steps of four rows; returns the run's folder."""
    recipe = {
        **RECIPE,
        "net": {**RECIPE["net"], "tied": tied},
        "rows_per_step": 4,
        "phase": learn,
        "data": data,
        "trainer": {**RECIPE["trainer"], "max_steps": STEPS, "gradient_clip_val": 1.0, **trainer},
    }
    (folder / f"{out}.yaml").write_text(yaml.safe_dump(recipe))
    done = subprocess.run(
        [sys.executable, keeping_checkpoints.__file__, "fit", "--recipe", f"{out}.yaml", "--out", out],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training loss") == 1, "only the first process speaks"
    return folder / out


def difference(a: Path, b: Path) -> float:
    """Largest difference of two runs' weights."""
    ours, theirs = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def compare(folder: Path, strategy: object, what: dict, **options: object) -> None:
    one = fit(folder, "one", **what, devices=1, **options)
    two = fit(folder, "two", **what, devices=2, strategy=strategy, **options)
    assert difference(one, two) <= 1e-5
    before, after = (json.loads((run / "report.json").read_text()) for run in (one, two))
    assert after["after"]["loss"] == pytest.approx(before["after"]["loss"], abs=1e-5)
    assert after["parameters"] == before["parameters"]
    steps = [line.split(",")[0] for line in (two / "metrics.csv").read_text().splitlines()]
    assert steps == ["step", "8"]
    # Resumed from the last checkpoint it ends at the same weights.
    whole = (two / "model.safetensors").read_bytes()
    assert as_if_stopped(two) == ["step-00000003.ckpt", "step-00000006.ckpt"]
    fit(folder, "two", **what, devices=2, strategy=strategy, **options)
    assert (two / "model.safetensors").read_bytes() == whole
    assert (two / "done.json").is_file()


def test_two_processes_equal_one(arithmetic: Path) -> None:
    compare(arithmetic, "ddp", NEXT_TOKEN)


@pytest.mark.slow
def test_two_processes_with_preferences(arithmetic: Path) -> None:
    compare(arithmetic, "ddp", PREFERENCES)


@pytest.mark.slow
@pytest.mark.parametrize("what", [NEXT_TOKEN, NEXT_TOKEN | {"tied": True}, PREFERENCES], ids=["next", "tied", "pairs"])
def test_a_sharded_net_equals_a_whole_one(arithmetic: Path, what: dict) -> None:
    """FSDP2: parameters, gradients and optimizer states spread over the processes, of which only the first has built
    the net; blocks recomputed in backward."""
    compare(arithmetic, SHARDED, what, callbacks=[{"class_path": "ActivationCheckpointing"}])


def test_rows_that_the_devices_cannot_share_are_refused(arithmetic: Path) -> None:
    done = phi3kit(arithmetic, "fit", "--recipe", "recipe.yaml", "--out", "run", "--rows_per_step", "5")
    assert done.returncode == 2
    assert "rows_per_step is 5, not a multiple of 2 rows on each of 1 devices" in done.stderr
    both = ("--rows_per_step", "4", "--trainer.accumulate_grad_batches", "2")
    done = phi3kit(arithmetic, "fit", "--recipe", "recipe.yaml", "--out", "run2", *both)
    assert "give either rows_per_step or trainer.accumulate_grad_batches" in done.stderr
