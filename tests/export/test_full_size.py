"""phi-3-mini at its true size, from its recipe to a proven bundle: about 20 minutes, 8 GB of memory and of disk."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from phi3kit import bundle

HOUR = 3600
SIZE = 1_990_000_000  # bytes of the program, embedding and head included
MEMORY = 8_000_000_000  # bytes resident, pages of files included


def most(process: subprocess.Popen[str], stage: list[str], over: threading.Event) -> dict[str, int]:
    """The most bytes that the process was resident with, by what it said it was doing."""
    peaks: dict[str, int] = {}
    while not over.wait(0.5) and process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        now = next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
        peaks[stage[0]] = max(now, peaks.get(stage[0], 0))
    return peaks


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
@pytest.mark.timeout(HOUR)
def test_phi3_mini_as_it_is(repository, tmp_path):
    recipe, out = repository / "recipes" / "phi3-mini" / "random-3.8b.yaml", tmp_path / "bundle"
    command = [sys.executable, "-m", "phi3kit.cli", "export", "--recipe", str(recipe), "--out", str(out)]
    stage, over, peaks, began = ["start"], threading.Event(), dict[str, int](), time.monotonic()
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        watcher = threading.Thread(target=lambda: peaks.update(most(process, stage, over)), daemon=True)
        watcher.start()
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{time.monotonic() - began:6.0f} s  {line}", end="")  # pytest -rP shows it
            if line.startswith("export ["):
                stage[0] = line.split("] ")[1].split()[0]
        assert process.wait() == 0, (tmp_path / "errors").read_text()[-3000:]
    over.set()
    watcher.join()
    print(f"{time.monotonic() - began:6.0f} s; most bytes resident: {peaks}")
    assert max(peaks["quantize"], peaks["lower"]) < MEMORY, peaks
    found = bundle.read(out)
    model = out / found.about["model"]
    assert model.stat().st_size < SIZE
    assert (found.about["context"], found.about["cache"]) == (4096, "int8")
    proof = json.loads((out / "report.json").read_text())["verification"]
    assert proof["holds"], proof
    points = {point["name"]: point for point in proof["points"]}
    assert {name for name, point in points.items() if point["status"] == "passed"} >= {
        "interface",
        "tokenizer",
        "operators",
        "logits",
        "runner",
        "files",
    }
    runner = points["runner"]["numbers"]
    assert runner["end"]["read"] > 500
    assert runner["far"]["start"] + runner["far"]["tokens"] == 4096
    with model.open("r+b") as file:  # one byte in the middle of two gigabytes
        file.seek(SIZE // 2)
        byte = file.read(1)
        file.seek(SIZE // 2)
        file.write(bytes([byte[0] ^ 1]))
    again = [sys.executable, "-m", "phi3kit.cli", "verify", str(out)]
    refused = subprocess.run(again, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert model.name in refused.stdout + refused.stderr
