"""A conversion never holds the model: what the process takes while it copies is bounded by a few pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from public_checkpoints import BASE, tensors, write_checkpoint

from phi3kit.checkpoints import convert
from phi3kit.checkpoints.copying import PIECE

CONFIG = {**BASE, "vocab_size": 2**20, "hidden_size": 128}  # embedding and head: 256 MiB each
MIB = 2**20


def resident() -> dict[str, int]:
    """This process's memory in bytes, by kind (proc(5): RssAnon, RssFile)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith("Rss")}


@pytest.fixture
def public(tmp_path):
    return write_checkpoint(tmp_path / "public", CONFIG, tensors(CONFIG))


def test_memory_is_that_of_a_few_pieces(public, tmp_path):
    for folder, out, dtype in (("public", "run", None), ("run", "back", None), ("run", "wide", torch.float32)):
        peak: dict[str, int] = {}

        def watch(written, size, peak=peak):
            start = resident()
            for n in written:
                for kind, value in resident().items():
                    peak[kind] = max(peak.get(kind, 0), value - start[kind])
                yield n

        convert(tmp_path / folder, tmp_path / out, dtype, show=watch)
        seen = sum(path.stat().st_size for path in (tmp_path / out).glob("*.safetensors"))
        assert seen > 512 * MIB
        assert peak["RssAnon"] < 32 * MIB, (out, peak)
        assert peak["RssFile"] < 6 * PIECE, (out, peak)  # pieces of source and target, and read-ahead
