"""Backends: those that are not available say why; those that are say what they cannot do."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from phi3kit import UserError, bundle
from phi3kit.cli import main
from phi3kit.export import Program, Vulkan, metadata, trace
from phi3kit.export.calibration import quantize_net
from phi3kit.export.operators import check_operators
from phi3kit.export.pte import cannot_run, facts
from phi3kit.families import Backend
from phi3kit.model import GroupedQueryAttention
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.testing import tiny

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
    program = Program(net, 32)
    model = tmp_path / "x.pte"
    model.write_bytes(Vulkan().lower(trace(program), metadata(program, eos_ids=[7], bos_id=None)))
    assert facts(model).delegates == ["VulkanBackend"]
    assert facts(model).inputs == [("torch.int64", [1, 32]), ("torch.int64", [1])]
    assert facts(model).constants["get_eos_ids"] == 7
    check = check_operators(model, "1.4.1")
    assert (check["targets"], check["faults"]) == (["android-vulkan"], [])
    assert check["operators"] == 2, "the position becomes a number; all else is the delegate's"
    assert cannot_run(model).startswith("ExecuTorch on this computer has no VulkanBackend")
    assert net.layers[0].mlp.down_proj.weight.scale.dtype == torch.bfloat16, "the net is as it was"


@pytest.mark.parametrize(
    ("options", "window", "message"),
    [
        ({"cache": "int8"}, None, "Vulkan keeps its cache in fp32 alone; set cache: float, or leave backend out"),
        ({"at_end": "slide"}, None, "Vulkan has no cache that slides; set at_end: fail, or leave backend out"),
        ({}, 8, "Vulkan attends over a whole context, and this net has windows or patterns; set a shorter one, or"),
    ],
)
def test_what_vulkan_cannot_do_is_refused(options, window, message):
    net = tiny.net(attention=partial(GroupedQueryAttention, window=window))
    with pytest.raises(UserError, match=message):
        Vulkan().lower(trace(Program(net, 16, **options)), {})


def test_vulkan_reads_text_alone():
    with pytest.raises(UserError, match="Vulkan lowers text alone, and this net sees; leave backend out"):
        Vulkan().lower({"forward": trace(Program(tiny.net(), 16))}, {})


def test_an_export_for_vulkan_says_what_was_not_proven(tmp_path, capsys):
    assert export(tmp_path, random=0, net=NET, context=32, backend={"class_path": "Vulkan"}) == 0
    found = bundle.read(tmp_path / "out")
    assert found.about["notes"] == [Vulkan.note]
    assert found.about["program"]["delegates"] == ["VulkanBackend"]
    points = json.loads((tmp_path / "out" / "report.json").read_text())["verification"]["points"]
    status = {point["name"]: point["status"] for point in points}
    assert status["logits"] == status["runner"] == "not run"
    assert status["interface"] == status["tokenizer"] == status["operators"] == status["files"] == "passed"
    assert not [name for name, said in status.items() if said == "failed"]
    assert "has no VulkanBackend: try the program on a device" in capsys.readouterr().out
