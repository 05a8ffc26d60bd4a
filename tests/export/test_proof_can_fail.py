"""The proof finds what is wrong: another net's program, a broken tokenizer, a wrong interface, a full disk."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from ready_backend import Ready

from phi3kit import UserError, bundle
from phi3kit import recipe as recipes
from phi3kit.export.activation_step import Step, activation_step
from phi3kit.export.device_text import check_device_text
from phi3kit.export.runner import Turn
from phi3kit.export.verify import Heard, _check_greedy, check_metadata, check_program
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.records import Message
from phi3kit.serve import BundleEngine
from phi3kit.text import load_tokenizer, render, stop_ids
from phi3kit.verbs import export
from phi3kit.verbs.export_order import source_of


@pytest.fixture
def recipe(tiny_run: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recipes.Recipe:
    """An export recipe whose backend gives the bytes of `tiny_bundle`'s program."""
    monkeypatch.setattr(Ready, "pte", (tiny_bundle / "phi4_tiny.pte").read_bytes())
    monkeypatch.setattr("phi3kit.export.XNNPACK", Ready)
    file = tmp_path / "export.yaml"
    content = {"start_from": str(tiny_run), "name": "tiny", "out": str(tmp_path / "out")}
    file.write_text(json.dumps(content | {"quantizer": {"class_path": "Int8DynamicInt4Weight"}}))
    return recipes.read("export", export.declare, ["--recipe", str(file)])


def test_exporting_again_replaces_a_bundle(recipe):
    export.export(recipe)
    first = (recipe.out / "bundle.json").stat().st_mtime_ns
    export.export(recipe)
    assert (recipe.out / "bundle.json").stat().st_mtime_ns > first
    bundle.read(recipe.out)
    assert [p.name for p in recipe.out.parent.iterdir() if p.name.startswith("out")] == ["out"]


def test_another_nets_program_is_found_out(recipe, tiny_run, tmp_path, monkeypatch):
    """The same net with one layer's weights moved by a tenth of their size."""
    from safetensors.torch import load_file, save_file

    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    state = load_file(run / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    state[name] += 0.1 * state[name].std() * torch.randn(state[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(state, run / "model.safetensors", metadata={"format": "pt"})
    recipe.config.start_from = run
    with pytest.raises(UserError, match=r"does not compute what the quantized net does: (logits|runner)"):
        export.export(recipe)
    assert not recipe.out.exists()
    failed = json.loads((tmp_path / "out.partial" / "report.json").read_text())["verification"]
    logits = failed["points"][3]
    assert logits["status"] == "failed"
    assert logits["numbers"]["largest_difference"] > logits["numbers"]["activation_step"]
    with pytest.raises(UserError, match="is not a bundle"):
        bundle.read(tmp_path / "out.partial")


@pytest.mark.parametrize("when", ["phi3kit.verbs.verify.prove", "phi3kit.bundle.seal", "phi3kit.bundle.sha256"])
def test_stopped_anywhere_nothing_looks_finished(recipe, monkeypatch, when):
    """What a kill leaves is what is on disk at that moment; nothing tidies up in either case."""

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(when, stop)
    with pytest.raises(KeyboardInterrupt):
        export.export(recipe)
    assert not recipe.out.exists()
    partial = recipe.out.with_name("out.partial")
    assert (partial / "phi4_tiny.pte").is_file()
    assert not bundle.is_bundle(partial)


def test_a_folder_that_is_no_bundle_is_left_alone(recipe):
    recipe.out.mkdir()
    (recipe.out / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is there already and is no bundle"):
        export.export(recipe)
    assert (recipe.out / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full():
    with pytest.raises(UserError, match=r"cannot write /dev/full \(3 bytes\): No space left on device; free some"):
        bundle.write(Path("/dev/full"), b"abc")


def test_a_wrong_interface_is_found(tiny_bundle):
    about = bundle.read(tiny_bundle).about["program"]
    model = tiny_bundle / "phi4_tiny.pte"
    assert check_metadata(model, about["constants"], frozenset(about["delegates"]))["faults"] == []
    wrong = check_metadata(model, about["constants"] | {"get_eos_ids": [1]}, frozenset())["faults"]
    assert wrong[0] == f"get_eos_ids() is {about['constants']['get_eos_ids']}, not [1]"
    assert wrong[1] == "delegate XnnpackBackend is not the backend's"
    shape = check_metadata(model, about["constants"] | {"get_vocab_size": 9}, frozenset(about["delegates"]))["faults"]
    assert any("forward returns" in fault for fault in shape)


def test_a_wrong_device_tokenizer_is_found(tiny_bundle, tiny_run, tmp_path):
    tokenizer = load_tokenizer(tiny_run / "tokenizer")
    content = json.loads((tiny_bundle / "tokenizer.json").read_text())
    file = tmp_path / "tokenizer.json"
    texts = ["The lamp turns.", "say <|end|> now"]
    file.write_text(json.dumps(content))
    assert check_device_text(file, tokenizer, texts, 512) == {"texts": 1, "faults": []}
    file.write_text(json.dumps(content | {"added_tokens": content["added_tokens"][:-1]}))
    faults = check_device_text(file, tokenizer, texts, 512)["faults"]
    assert "the device counts 511 entries" in faults[0]
    assert "in training" in faults[1]


def test_another_quantization_is_found_out(tiny_bundle, tiny_run, memorised):
    """Scales fitted another way change no weight by more than a few percent."""
    tokenizer = load_tokenizer(tiny_run / "tokenizer")
    model = tiny_bundle / "phi4_tiny.pte"
    prompts = [render([Message("user", q)], tokenizer, generation=True).ids for q in memorised]
    for method, holds in (("hqq", True), ("plain", False)):
        reference = export.quantized(source_of(tiny_run), Int8DynamicInt4Weight(method=method), None)
        checks = check_program(model, lambda: BundleEngine(model), reference, prompts, stop_ids(tokenizer))
        found = [fault for fault in checks["logits"]["faults"] if fault.startswith("logits differ by")]
        assert bool(found) is not holds, (method, checks["logits"], checks["activation_step"])


def test_a_float_net_has_a_float_step():
    from phi3kit.export import Program
    from phi3kit.testing import tiny

    program = Program(tiny.net(), 64)
    said_TV = program.every_logit([1, 2, 3])
    share = pytest.approx(1e-4 * float(said_TV.abs().max()))
    step = activation_step(program, [[1, 2, 3]])
    assert (step.largest, step.usual) == (share, share)


def test_a_float_nets_step_is_of_ids_that_can_be_said():
    """Phi-3-small gives the others the lowest number there is."""
    from phi3kit.export import Program
    from phi3kit.testing import tiny

    net = tiny.net()
    said_TV = Program(copy.deepcopy(net), 64).every_logit([1, 2, 3])
    net.unused_ids = [90]
    step = activation_step(Program(net, 64), [[1, 2, 3]])
    assert step.largest <= 1e-4 * float(said_TV.abs().max())


@pytest.mark.parametrize(("usual", "faults"), [(0.05, 1), (0.4, 0)])
def test_other_tokens_are_not_excused_by_a_step_that_hardly_ever_is_so_large(usual, faults):
    """Every second answer is the reference's second best, by half a step of the largest size."""
    prompts, answers = [[0, 0], [1, 1]], [[2] * 24, [3] * 24]
    logits_TV = torch.zeros(26, 5)
    logits_TV[:, 2], logits_TV[:, 3] = 2.0, 1.1

    class Said:
        step = Step(2.0, usual)

        def logits(self, ids: list[int]) -> torch.Tensor:
            return logits_TV

    heard = Heard(prompts, answers, [], [], Turn([], 0), [])
    found = _check_greedy(Said(), heard, [4])
    assert len(found["differences"]) == 24
    assert len(found["faults"]) == faults, found["faults"]
    assert all("24 of 48 tokens are worse by 0.15 or more" in fault for fault in found["faults"])
