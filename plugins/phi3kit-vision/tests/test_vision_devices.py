"""Two processes, of which one may have images in its batch and the other none, train as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drawn_pictures import ask, recipe, say, write_pictures, write_recipe
from safetensors.torch import load_file

SHARDED = {
    "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
    "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False},
}


def fit(folder: Path, name: str, **trainer: Any) -> dict[str, Any]:
    """Weights of a run of 20 steps of two rows, each of one or two chats."""
    content = recipe("chats", "ImageConversationBatches", rows_per_step=2)
    content["data"]["init_args"] |= {"batch_size": 1, "context": 56}
    content["trainer"] |= {"max_steps": 20, **trainer}
    write_recipe(folder / f"{name}.yaml", content)
    command = [sys.executable, "-m", "phi3kit.cli", "fit", "--recipe", f"{name}.yaml", "--out", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return load_file(folder / name / "model.safetensors")


@pytest.mark.slow
def test_devices_with_and_without_images_agree(tmp_path: Path):
    folder = write_pictures(tmp_path)
    file = folder / "chats-train.jsonl"
    talk = [{"messages": [ask(f"How many is {i}?"), say(f"{i} squares, not less and not more.")]} for i in range(60)]
    shown = file.read_text().splitlines(keepends=True)[:40]
    file.write_text("".join([*shown, *(json.dumps(row) + "\n" for row in talk)]))
    one = fit(folder, "one", devices=1)
    for name, strategy in (("whole", "ddp"), ("sharded", SHARDED)):
        two = fit(folder, name, devices=2, strategy=strategy)
        assert max(float((one[key] - two[key]).abs().max()) for key in one) <= 1e-5
