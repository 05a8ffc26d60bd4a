"""Backends: those that are not available say why; those that are say what they cannot do, before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from phi3kit import UserError, bundle
from phi3kit import recipe as recipes
from phi3kit.cli import main
from phi3kit.export import XNNPACK, CoreML, Program, Vulkan, metadata, trace
from phi3kit.export.calibration import quantize_net
from phi3kit.export.needs import check
from phi3kit.export.operators import check_operators
from phi3kit.export.pte import cannot_run, facts
from phi3kit.export.room import room_for
from phi3kit.families import Backend, Need
from phi3kit.quantizers import Int8DynamicInt4Weight, WeightOnly
from phi3kit.testing import tiny
from phi3kit.testing.export_laws import delegates_of
from phi3kit.verbs.export import declare
from phi3kit.verbs.export_order import Order, read_order

NET = {
    "dims": {"vocab_size": 512, "hidden_size": 32, "n_layers": 1, "n_heads": 4, "intermediate_size": 64, "context": 64},
    "attention": [{"class_path": "GroupedQueryAttention"}],
    "feed_forward": [{"class_path": "GatedMLP"}],
    "position": {"class_path": "RoPE"},
}


def export(folder: Path, **recipe: object) -> int:
    file = folder / "export.yaml"
    file.write_text(json.dumps({"verb": "export", "name": "x", "out": str(folder / "out"), **recipe}))
    return main(["export", "--recipe", str(file)])


def read(folder: Path, **recipe: object) -> Order:
    file = folder / "export.yaml"
    file.write_text(json.dumps({"name": "x", "out": str(folder / "out"), **recipe}))
    return read_order(recipes.read("export", declare, ["--recipe", str(file)]))


@pytest.mark.parametrize("name", sorted(Backend.not_here))
def test_a_backend_that_is_not_available_says_why_in_one_line(name, tmp_path, capsys):
    recipe = tmp_path / "export.yaml"
    recipe.write_text(json.dumps({"verb": "export", "name": "x", "out": "x", "backend": {"class_path": name}}))
    assert main(["export", "--recipe", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"the Backend {name} is not available here: {Backend.not_here[name]}; use XNNPACK" in error


def test_a_quantized_program_becomes_one_vulkan_delegate(tmp_path):
    net = tiny.net()
    quantize_net(net, Int8DynamicInt4Weight(), [])
    program = Program(net, 32, form=Vulkan.form)
    traced, model = trace(program), tmp_path / "x.pte"
    calls = [node for node in traced.graph.nodes if "custom_sdpa" in str(node.target)]
    assert [node.args[0].meta["val"].shape[0] for node in calls] == [1, 1], (
        "of a batch of one, a law of Vulkan's kernel"
    )
    assert all(len(node.args) == 7 and not node.kwargs for node in calls), "it takes no other scale than its own"
    model.write_bytes(Vulkan().lower(traced, metadata(program, eos_ids=[7], bos_id=None)))
    assert facts(model).delegates == ["VulkanBackend"]
    assert facts(model).inputs == [("torch.int64", [1, 32]), ("torch.int64", [1])]
    assert facts(model).constants["get_eos_ids"] == 7
    check = check_operators(model, "1.4.1")
    assert (check["targets"], check["faults"]) == (["android-vulkan"], [])
    assert check["operators"] == 2, "the position becomes a number; all else is the delegate's"
    assert cannot_run(model).startswith("ExecuTorch on this computer has no VulkanBackend")
    assert net.layers[0].mlp.down_proj.weight.scale.dtype == torch.bfloat16, "the net is as it was"


ROUNDS = {"quantizer": {"class_path": "Int8DynamicInt4Weight"}}
WINDOW = {"net": {**NET, "attention": [{"class_path": "GroupedQueryAttention", "init_args": {"window": 8}}]}}


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("Vulkan", {"cache": "int8"}, "Vulkan keeps its cache in fp32 alone; set cache: float, or leave backend out"),
        ("Vulkan", {"at_end": "slide"}, "Vulkan has no cache that slides; set at_end: fail, or leave backend out"),
        ("Vulkan", WINDOW, "Vulkan attends over a whole context, and this net has windows or patterns; set a shorter"),
        ("CoreML", {"cache": "int8"}, "CoreML keeps its cache in fp16 alone; set cache: float, or leave backend out"),
        ("CoreML", {"at_end": "slide"}, "CoreML has no cache that slides; set at_end: fail, or leave backend out"),
        ("CoreML", ROUNDS, "CoreML does not round activations to 8 bits, as this quantizer does; use WeightOnly, or"),
        (
            "XNNPACK",
            {"quantizer": {"class_path": "WeightOnly"}},
            "XNNPACK computes wrong numbers where inputs are not rounded as weights are; use Int8DynamicInt4Weight",
        ),
    ],
)
def test_what_a_backend_cannot_do_is_refused_before_any_work(backend, options, message, tmp_path, capsys):
    recipe = {"random": 0, "net": NET, "context": 32, "backend": {"class_path": backend}, **options}
    assert export(tmp_path, **recipe) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == "", "nothing had begun"
    assert not list(tmp_path.glob("out*"))


def test_a_window_beyond_the_context_is_none(tmp_path):
    recipe = {"random": 0, "context": 8, "backend": {"class_path": "Vulkan"}, **WINDOW}
    assert read(tmp_path, **recipe).backend.cannot["windows"]


@pytest.mark.parametrize("backend", [XNNPACK(), Vulkan(), CoreML()])
@pytest.mark.parametrize("need", get_args(Need))
def test_a_backend_is_asked_for_each_need(need, backend):
    if need not in backend.cannot:
        check(backend, iter([need]))
        return
    with pytest.raises(UserError, match=f"{type(backend).__name__} .*{backend.cannot[need][:20]}"):
        check(backend, iter([need]))


@pytest.mark.parametrize(("backend", "cache"), [("XNNPACK", "int8"), ("Vulkan", "float"), ("CoreML", "float")])
def test_a_long_context_has_a_cache_that_its_backend_has(backend, cache, tmp_path):
    long = {**NET, "dims": {**NET["dims"], "context": 2048}}
    assert read(tmp_path, random=0, net=long, backend={"class_path": backend}).cache == cache


def test_coreml_without_coremltools_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert export(tmp_path, random=0, net=NET, backend={"class_path": "CoreML"}) == 2
    assert "pip install coremltools==9.0, or leave backend out (XNNPACK)" in capsys.readouterr().err


def test_a_quantized_program_becomes_one_coreml_delegate(tmp_path):
    net = tiny.net()
    quantize_net(net, WeightOnly(), [])
    program = Program(net, 32, form="one token")
    model = tmp_path / "x.pte"
    model.write_bytes(CoreML().lower(trace(program), metadata(program, eos_ids=[7], bos_id=None)))
    found = facts(model)
    assert found.delegates == ["CoreMLBackend"]
    assert found.inputs == [("torch.int64", [1, 1]), ("torch.int64", [1])]
    assert found.outputs == [("torch.float32", [1, 96])]
    assert found.constants["get_max_seq_len"] == found.constants["get_max_context_len"] == 32
    assert found.constants["enable_dynamic_shape"] == 0
    operators = check_operators(model, "1.4.1")
    assert (operators["targets"], operators["faults"], operators["operators"]) == (["ios"], [], 0)
    assert cannot_run(model).startswith("ExecuTorch on this computer has no CoreMLBackend")


def test_coreml_asks_for_the_memory_that_its_copies_take():
    sizes = {"vocab_size": 32064, "hidden_size": 1024, "n_layers": 24, "n_heads": 16, "intermediate_size": 4096}
    section = {**NET, "dims": {**sizes, "context": 2048}}
    once, asked = (room_for(section, WeightOnly(), 512, copies).memory for copies in (1, CoreML.copies))
    assert once < 3.13e9 < asked < 5.5e9, "an export of it was resident with 3.13 GB"


def test_a_net_that_coreml_has_no_operator_for_is_named():
    program = Program(tiny.net(), 8, form="one token")
    program.net.norm = InverseHyperbolicSine()
    with pytest.raises(UserError, match=r"cannot lower this net \(.*asinh.*\); leave backend out \(XNNPACK\)"):
        CoreML().lower(trace(program), {})


class InverseHyperbolicSine(nn.Module):
    def forward(self, x_BTD):
        return x_BTD.asinh()


def test_truth_values_can_be_joined_for_coreml():
    program = Program(tiny.net(), 8, form="one token")
    program.net.norm = FarFromZero()
    assert delegates_of(CoreML().lower(trace(program), {})) == {"CoreMLBackend"}


class FarFromZero(nn.Module):
    def forward(self, x_BTD):
        return x_BTD * ((x_BTD > 1) | (x_BTD < -1))


@pytest.mark.parametrize("backend", [Vulkan(), CoreML()])
def test_an_export_that_cannot_run_here_says_what_was_not_proven(backend, tmp_path, capsys):
    name, quantizer = type(backend).__name__, {"class_path": "WeightOnly"}
    assert export(tmp_path, random=0, net=NET, context=32, backend={"class_path": name}, quantizer=quantizer) == 0
    found = bundle.read(tmp_path / "out")
    assert found.about["notes"] == [backend.note]
    assert found.about["program"]["delegates"] == [f"{name}Backend"]
    at_once = 1 if backend.form == "one token" else 32
    assert f"at most {at_once} read at once" in (tmp_path / "out" / "verification.json").read_text()
    points = json.loads((tmp_path / "out" / "report.json").read_text())["verification"]["points"]
    status = {point["name"]: point["status"] for point in points}
    assert status["logits"] == status["runner"] == "not run"
    assert status["interface"] == status["tokenizer"] == status["operators"] == status["files"] == "passed"
    assert not [name for name, said in status.items() if said == "failed"]
    assert f"has no {name}Backend: try the program on a device" in capsys.readouterr().out
