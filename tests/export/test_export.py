"""A run becomes a bundle, and the bundle is what it says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from phi3kit import bundle
from phi3kit.cli import main


@pytest.fixture(scope="module")
def report(tiny_bundle: Path) -> dict:
    return json.loads((tiny_bundle / "report.json").read_text())


def test_the_proof_holds_and_looked_at_something(report):
    points = {point["name"]: point for point in report["verification"]["points"]}
    assert [point["number"] for point in points.values()] == [1, 2, 3, 4, 5, 6, 7, 8]
    logits, runner = points["logits"]["numbers"], points["runner"]["numbers"]
    assert logits["positions"] > 250
    assert 0 < logits["largest_difference"] <= logits["activation_step"]
    assert logits["activation_step"] < logits["standard_deviation_of_logits"] / 4
    assert runner["prompts"] >= 20
    assert runner["tokens"] > 100
    assert len({d["prompt"] for d in runner["differences"]}) <= 2
    assert points["tokenizer"]["numbers"]["texts"] > 30
    assert report["verification"]["holds"]
    assert not any(point["faults"] for point in points.values())
    assert {name for name, point in points.items() if point["status"] == "passed"} >= {
        *("interface", "tokenizer", "operators", "logits", "runner", "files")
    }


def test_a_second_turn_reads_only_what_is_new(report):
    (runner,) = [point for point in report["verification"]["points"] if point["name"] == "runner"]
    assert len(runner["numbers"]["second_turn"]["turns"]) == 3
    for turn in runner["numbers"]["second_turn"]["turns"]:
        assert turn["read"] == turn["new"]
        assert turn["before"] > 0
    first, second = report["conversation"]
    assert second["tokens_before"] > first["tokens_before"] == 0


def test_exact_answers_of_float_and_program(report):
    assert report["questions"]["taught"]["questions"] == 6
    exact = report["questions"]["taught"]["exact"]
    assert exact["float"] == exact["itself"] == 1.0
    assert exact["program"] >= 5 / 6


def test_the_conversation_is_what_was_learned(report, memorised):
    first = report["conversation"][0]
    assert first["answer"] == memorised[first["you"]]


def test_files_and_description(tiny_bundle, tiny_run):
    about = bundle.read(tiny_bundle).about
    names = {"phi4_tiny.pte", "tokenizer.json", "tokenizer_config.json", "report.json"}
    names |= {"verification.json", "verification.html", "APPS.md"}
    assert set(about["files"]) == names == {p.name for p in tiny_bundle.iterdir()} - {"bundle.json"}
    assert about["model"] == "phi4_tiny.pte"
    assert about["context"] == 128
    assert about["longrope"] == "long"
    assert about["template"]["next"] == "<|end|><|user|>{content}<|end|><|assistant|>"
    assert about["stop"] == {
        "tokens": ["<|end|>", "<|endoftext|>", "<|assistant|>"],
        "ids": about["program"]["constants"]["get_eos_ids"],
    }
    assert about["quantizer"]["linear"]["weight_bits"] == 4
    assert about["bytes"]["program"] == (tiny_bundle / "phi4_tiny.pte").stat().st_size
    assert about["bytes"]["program"] < about["bytes"]["float32_weights"] / 2
    assert about["versions"]["executorch"]
    assert "class_path: phi3kit.quantizers" in about["origin"]["export"]
    assert "LongRoPE" in about["origin"]["net"]


def test_the_instructions_are_this_bundles(tiny_bundle):
    about, page = bundle.read(tiny_bundle).about, (tiny_bundle / "APPS.md").read_text()
    assert f"must print `{about['files']['phi4_tiny.pte']['sha256']}`" in page
    pushed = [line.split()[2] for line in page.splitlines() if line.startswith("adb push ")]
    named = re.findall(r"\$\{folder\}/([^`]+)`", page)
    assert pushed == ["phi4_tiny.pte", "tokenizer.json"]
    assert named == ["phi4_tiny.pte", "tokenizer.json", "tokenizer_config.json"]
    assert {*pushed, *named} <= set(about["files"])


def test_what_llamademo_is_told_to_type_is_a_later_turn(tiny_bundle):
    """Its ids, by ExecuTorch's tokenizer from a file of another name, are those of the model's next turn."""
    from pytorch_tokenizers import CppHFTokenizer

    from phi3kit.text import HuggingFaceTokenizer
    from phi3kit.text.template import render_turn

    format = re.search(r"```text\n(.*?)\n```", (tiny_bundle / "APPS.md").read_text(), re.DOTALL)
    assert format
    device = CppHFTokenizer()
    device.load(str(shutil.copy(tiny_bundle / "tokenizer.json", tiny_bundle.parent / "tiny-tokenizer.json")))
    typed = format[1].replace("{{ user_prompt }}", "Who pays 12 €?")
    own = HuggingFaceTokenizer(str(tiny_bundle / "tokenizer.json"))
    assert device.encode(typed, 0, 0) == render_turn("Who pays 12 €?", own)


def test_verify_proves_it_again(tiny_bundle, capsys):
    assert main(["verify", str(tiny_bundle)]) == 0
    printed = capsys.readouterr().out
    page = tiny_bundle.with_name("bundle-verification") / "verification.html"
    assert printed.endswith(f"report: {page}\n")
    assert "The proof holds" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["holds"]
    assert "7 files      passed   7 files: " in printed
    assert "on 20 prompts in TextLLMRunner" in printed
    assert "proof                 holds" in printed


def test_verify_without_the_run_says_what_is_left_out(tiny_bundle, tiny_run, capsys, monkeypatch):
    away = tiny_run.with_name("away")
    tiny_run.rename(away)
    try:
        assert main(["verify", str(tiny_bundle)]) == 0
    finally:
        away.rename(tiny_run)
    printed = capsys.readouterr().out
    assert f"4 logits     not run  its run {tiny_run} is not here; name it with --run" in printed
    assert "5 runner     not run  its run" in printed
    assert "proof                 holds; not run: points 4, 5" in printed


def test_every_verb_refuses(tiny_bundle, tmp_path, capsys):
    """One byte of an exported bundle, in each of its files; first and last and between."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_bundle, folder)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for at in (0, len(whole) // 3, len(whole) - 1):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            for command in (["verify", str(folder)], ["chat", str(folder)], ["serve", str(folder)]):
                assert main(command) == 2
                error = capsys.readouterr().err
                assert error.count("\n") == 1
                assert str(file) in error, command
        file.write_bytes(whole)
    assert not folder.with_name("copy-verification").exists()
    bundle.read(folder)
