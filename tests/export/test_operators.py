"""Which published runtimes have what a program calls: the lists, and what the check says of them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from phi3kit import executorch_ops
from phi3kit.export.operators import FILE, check_operators, compare, published, used

COUNTS = {"1.1": 258, "1.2": 259, "1.3": 261, "1.4": 267}  # and XNNPACK


def test_how_many_names_each_version_has():
    assert {version: len(names) - 1 for version, names in published()["android"].items()} == COUNTS
    assert {version: len(names) - 2 for version, names in published()["android-vulkan"].items()} == COUNTS
    assert {version: len(names) - 3 for version, names in published()["ios"].items()} == COUNTS


def test_the_newest_list_is_what_this_computers_runtime_registers():
    executorch_ops.register()
    from executorch.runtime import Runtime

    here = set(Runtime.get().operator_registry.operator_names)
    assert here - published()["android"]["1.4"] == {"preprocess::tile_crop.out"}, "of the Python package alone"
    assert published()["android"]["1.4"] - here == {"XnnpackBackend"}


def test_the_lists_are_what_the_script_reads_from_the_package(repository):
    package = Path(importlib.util.find_spec("executorch").submodule_search_locations[0])
    minor = ".".join(version("executorch").split(".")[:2])
    script = [sys.executable, str(repository / "mobile" / "operators.py"), f"{minor}={package}"]
    made = json.loads(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    stored = json.loads(FILE.read_text())
    assert made["targets"] == stored["targets"]
    for library, versions in stored["libraries"].items():
        assert made["libraries"][library][minor] == sorted(name for names in versions.values() for name in names)


def test_a_bundle_runs_on_every_published_runtime(tiny_bundle):
    (model,) = tiny_bundle.glob("*.pte")
    check = check_operators(model, "1.4.1")
    assert not check["faults"]
    assert check["delegates"] == ["XnnpackBackend"]
    assert check["operators"] > 10
    assert check["oldest"] == {"android": "1.1", "android-vulkan": "1.1", "ios": "1.1"}
    assert "llama::update_cache.out" in used(model)[0]


def test_what_came_later_raises_the_oldest_runtime():
    check = compare(["aten::add.out", "aten::var_mean.correction_out"], ["XnnpackBackend"], "1.3.1")
    assert not check["faults"]
    assert check["oldest"]["android"] == "1.3"
    assert check["missing"]["android"]["1.2"] == ["aten::var_mean.correction_out"]
    assert compare(["aten::var_mean.correction_out"], [], "1.2.0")["faults"][0] == (
        "aten::var_mean.correction_out is not in android 1.2, the oldest runtime that the bundle declares"
    )


@pytest.mark.parametrize(
    ("operator", "minimum"), [("et_vk::select_as_symint", "1.4.1"), ("torchao::dequantize_affine.out", "2.0+cpu")]
)
def test_an_operator_that_nobody_has_is_a_fault(operator, minimum):
    check = compare([operator], ["XnnpackBackend"], minimum)
    assert check["oldest"] == {"android": None, "android-vulkan": None, "ios": None}
    assert check["faults"][0].startswith(f"{operator} is not in android 1.4")


def test_only_targets_with_the_delegates_count():
    check = compare(["aten::add.out"], ["CoreMLBackend"], "1.4.1")
    assert (check["targets"], check["faults"]) == (["ios"], [])
    assert check["oldest"] == {"android": None, "android-vulkan": None, "ios": "1.1"}
    assert compare([], ["QnnBackend"], "1.4.1")["faults"] == [
        "no published runtime has all of the delegates QnnBackend"
    ]
