"""What an export needs is known before it starts, near what it takes, and refused where it is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from phi3kit import UserError, bundle
from phi3kit.cli import main
from phi3kit.export import room
from phi3kit.export.device import for_device
from phi3kit.export.sizes import cache_bytes, program_bytes
from phi3kit.model.load import build_net, net_section
from phi3kit.quantizers import GPTQ, Int8DynamicInt4Weight
from phi3kit.records import Dims

PHI3_MINI = {
    "dims": {"vocab_size": 32064, "hidden_size": 3072, "n_layers": 32, "n_heads": 32, "intermediate_size": 8192},
    "attention": [{"class_path": "GroupedQueryAttention"}],
    "feed_forward": [{"class_path": "GatedMLP"}],
    "position": {"class_path": "RoPE"},
}
FOUR_BITS = Int8DynamicInt4Weight(group_size=128, head_bits=4, embedding_bits=4)


def test_a_programs_size_is_near_what_was_computed(tiny_bundle: Path, tiny_run: Path):
    net = build_net(net_section(tiny_run), "meta")
    for_device(net)
    written = bundle.read(tiny_bundle).about["bytes"]["program"]
    assert program_bytes(net, Int8DynamicInt4Weight(), 128) == pytest.approx(written, rel=0.25)  # mostly graph


def test_phi3_mini_at_4_bits():
    size = program_bytes(build_net(PHI3_MINI, "meta"), FOUR_BITS, 4096)
    assert 1.98e9 < size <= 1.99e9
    needed = room.room_for(PHI3_MINI, FOUR_BITS)
    assert size < needed.memory <= 8e9
    assert 5.5e9 < needed.disk < 6.5e9
    assert str(needed) == f"memory: about {needed.memory / 1e9:.1f} GB at most; disk: 6.1 GB while it is built"


def test_many_ids_need_little_more_than_their_numbers():
    """Phi-4-mini has 200,064: 2.5 GB in fp32, of which torchao by itself wants copies."""
    dims = PHI3_MINI["dims"] | {"vocab_size": 200_064, "n_heads": 24, "n_kv_heads": 8, "head_dim": 128}
    for quantizer in (FOUR_BITS, GPTQ(group_size=128, head_bits=4, embedding_bits=4)):
        assert room.room_for(PHI3_MINI | {"dims": dims}, quantizer).memory < 11e9


def test_an_int8_cache_is_a_quarter_and_a_little():
    dims = Dims(**PHI3_MINI["dims"], context=4096)
    assert cache_bytes(dims, 4096, "float") == 3_221_225_472
    assert cache_bytes(dims, 4096, "int8") == 3_221_225_472 // 4 * 101 // 96


def test_what_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "available_memory", lambda: 3_000_000_000)
    needed = room.Room(memory=4_100_000_000, disk=6_000_000_000)
    with pytest.raises(UserError, match=r"needs about 4\.1 GB of memory, 3\.0 GB are available; close other programs"):
        needed.check(tmp_path / "out")
    monkeypatch.setattr(room, "available_memory", lambda: None)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000_000))
    with pytest.raises(UserError, match=r"needs 6\.0 GB of disk beside .*out, 5\.0 GB are free; free some space"):
        needed.check(tmp_path / "out")
    needed.check(tmp_path / "out", there=2_000_000_000)


def test_this_machine_says_what_is_available():
    available = room.available_memory()
    assert available is None or 1e7 < available < 1e14
    assert room.peak_memory() > 1e7


def test_an_export_that_cannot_fit_stops_before_it_begins(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room, "available_memory", lambda: 1000)
    recipe = tmp_path / "export.yaml"
    recipe.write_text(json.dumps({"start_from": str(tiny_run), "name": "tiny", "out": str(tmp_path / "out")}))
    assert main(["export", "--recipe", str(recipe)]) == 2
    assert "GB of memory, 0.0 GB are available" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["export.yaml"]


def test_the_page_of_sizes_is_what_is_computed(repository: Path):
    if not _plugins():
        pytest.skip("needs the first-party plugins, whose nets are in the table")
    done = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / "sizes.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr or "mobile/sizes.md is old: run benchmarks/sizes.py"


def _plugins() -> bool:
    from phi3kit import plugins

    names = {component.distribution for component in plugins.load().components}
    return {"phi3kit-blocksparse", "phi3kit-moe", "phi3kit-vision"} <= names
