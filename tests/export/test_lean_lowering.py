"""Lowering that shares work and memory gives the program that ExecuTorch's own gives."""

from __future__ import annotations

import copy
import gc
import logging
from pathlib import Path

import pytest
import torch

from phi3kit.export import XNNPACK, Program, metadata, trace
from phi3kit.export.lean_lowering import lean, structure, with_weights
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.records import Dims
from phi3kit.serve.bundle_engine import BundleEngine
from phi3kit.testing import tiny

IDS = [5, 9, 1, 80, 33, 2]


def program(n_layers: int) -> Program:
    net = tiny.net(Dims(96, 64, n_layers, 4, n_kv_heads=2, intermediate_size=128, context=64))
    Int8DynamicInt4Weight().quantize(net)
    return Program(net, 64)


def exported(width: int, seed: int) -> torch.export.ExportedProgram:
    torch.manual_seed(seed)
    layer = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.ReLU())
    return torch.export.export(layer, (torch.ones(2, 8),))


def test_equal_graphs_have_equal_structure_whatever_their_weights():
    assert structure(exported(4, 0)) == structure(exported(4, 1))
    assert structure(exported(4, 0)) != structure(exported(5, 0))


def test_another_programs_weights_take_their_places():
    one, other = exported(4, 0), exported(4, 1)
    names = {name: name for name in one.state_dict}
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(with_weights(one, names, other).module()(x), other.module()(x))
    assert not torch.equal(one.module()(x), other.module()(x))


def test_copies_share_weights_only_inside():
    weight = torch.nn.Parameter(torch.ones(3))
    with lean(lambda: None):
        assert copy.deepcopy({"w": weight})["w"] is weight
    assert copy.deepcopy({"w": weight})["w"] is not weight


@pytest.mark.slow
def test_the_same_program_as_executorch_makes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Four layers: the two in the middle are alike, and their subgraphs are transformed once."""
    from executorch.backends.xnnpack._passes import XNNPACKPassManager

    logging.getLogger("torch.__trace").handlers.clear()  # pytest's, for which torch writes all that it traces
    reference = program(4)
    constants = metadata(reference, eos_ids=[3], bos_id=None)
    released: list[int] = []
    transformed, original = [], XNNPACKPassManager.transform
    traced, decompose = [], torch.export.ExportedProgram.run_decompositions
    monkeypatch.setattr(XNNPACKPassManager, "transform", lambda self: (transformed.append(0), original(self))[1])
    monkeypatch.setattr(
        torch.export.ExportedProgram,
        "run_decompositions",
        lambda self, table: (traced.append(len(self.graph.nodes)), decompose(self, table))[1],
    )
    plain, shared = tmp_path / "plain.pte", tmp_path / "shared.pte"
    plain.write_bytes(XNNPACK().lower(trace(reference), constants))
    subgraphs = len(transformed)
    whole = sum(size > max(traced) / 2 for size in traced)
    transformed.clear()
    traced.clear()
    XNNPACK().write(trace(program(4)), constants, shared, lambda: released.append(0))
    assert len(released) == subgraphs > len(transformed) > 3
    assert (whole, sum(size > max(traced) / 2 for size in traced)) == (3, 1)
    assert shared.stat().st_size <= plain.stat().st_size  # subgraphs without weights are the same bytes, stored once
    one, other = BundleEngine(plain), BundleEngine(shared)
    assert torch.equal(one.ingest(IDS), other.ingest(IDS))
    assert torch.equal(one.ingest([4]), other.ingest([4]))


def subgraphs_alive() -> int:
    gc.collect()
    return sum(type(each).__name__ == "LoweredBackendModule" for each in gc.get_objects())


def test_nothing_is_kept_once_the_file_is_written(tmp_path: Path):
    """torch's and ExecuTorch's memories of what was traced hold whole subgraphs, with packed weights."""
    before, reference = subgraphs_alive(), program(1)
    traced = trace(reference)
    XNNPACK().write(traced, metadata(reference, eos_ids=[3], bos_id=None), tmp_path / "net.pte")
    del traced
    assert subgraphs_alive() <= before
