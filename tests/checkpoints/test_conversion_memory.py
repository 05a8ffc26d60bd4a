"""A conversion never holds the model: what the process takes while it copies is bounded by a few pieces."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from public_checkpoints import BASE, tensors, write_checkpoint

from phi3kit.checkpoints.copying import PIECE

CONFIG = {**BASE, "vocab_size": 2**20, "hidden_size": 128}  # embedding and head: 256 MiB each
MIB = 2**20
CHILD = """
import json, sys
from pathlib import Path
import torch
from phi3kit.checkpoints import convert

def resident():  # bytes, by kind (proc(5): RssAnon, RssFile)
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith("Rss")}

def watch(written, size):
    start = resident()
    for n in written:
        for kind, value in resident().items():
            peak[kind] = max(peak.get(kind, 0), value - start[kind])
        yield n

peak = {}
source, target, dtype = sys.argv[1:]
convert(Path(source), Path(target), getattr(torch, dtype) if dtype else None, show=watch)
print(json.dumps(peak))
"""


@pytest.fixture
def public(tmp_path):
    return write_checkpoint(tmp_path / "public", CONFIG, tensors(CONFIG))


def test_memory_is_that_of_a_few_pieces(public, tmp_path):
    """In a process of its own: what other tests freed in this one, the system may back with pages again."""
    for folder, out, dtype in (("public", "run", ""), ("run", "back", ""), ("run", "wide", "float32")):
        command = [sys.executable, "-c", CHILD, str(tmp_path / folder), str(tmp_path / out), dtype]
        peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        seen = sum(path.stat().st_size for path in (tmp_path / out).glob("*.safetensors"))
        assert seen > 512 * MIB
        assert 0 <= peak["RssAnon"] < 32 * MIB, (out, peak)
        assert 0 < peak["RssFile"] < 6 * PIECE, (out, peak)  # pieces of source and target, and read-ahead
