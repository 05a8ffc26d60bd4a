"""The whole road, from documents to a conversation with a .pte: tiny in the fast tests, pocket-phi in the slow."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from arithmetic import command, phi3kit

OPTIMIZER = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.005}}
NET: dict[str, Any] = {
    "tokenizer": "data/own/tokenizer",
    "net": {
        "dims": {"vocab_size": 400, "hidden_size": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1,
                 "intermediate_size": 64, "context": 64},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
    },
    "phase": {"class_path": "NextToken", "init_args": {"optimizer": OPTIMIZER}},
    "trainer": {"accelerator": "cpu", "max_steps": 12},
    "checkpoint_every": 5,
}  # fmt: skip


def write_road(folder: Path) -> None:
    """A user's own documents and chats, and four recipes."""
    notes = folder / "notes"
    notes.mkdir()
    for i in range(40):
        text = f"# Note {i}\n\nThe sum of {i} and {i + 1} is {2 * i + 1}. " + "It is easy to add numbers. " * (
            i % 5 + 2
        )
        (notes / f"{i:02d}.md").write_text(text)
    with (folder / "chats.jsonl").open("w") as file:
        for i in range(30):
            turns = [{"role": "user", "content": f"{i} + {i}?"}, {"role": "assistant", "content": f"{2 * i}"}]
            file.write(json.dumps({"messages": turns}) + "\n")
    recipes = folder / "recipes"
    recipes.mkdir()
    files = {
        "net.yaml": NET,
        "1-prepare.yaml": {
            "verb": "prepare", "out": "data/own",
            "preparation": {
                "readers": [{"class_path": "Files", "init_args": {"path": "notes"}}],
                "filters": [{"class_path": "Length", "init_args": {"shortest": 5}}],
                "vocab_size": 380, "holdout": 0.1,
            },
        },
        "2-pretrain.yaml": {
            "base": "net.yaml", "verb": "fit", "out": "runs/own/2",
            "data": {"class_path": "TokenStream", "init_args": {
                "folder": "data/own", "part": "web", "context": 32, "batch_size": 2}},
        },
        "5-sft.yaml": {
            "base": "net.yaml", "verb": "fit", "out": "runs/own/5", "start_from": "runs/own/2",
            "data": {"class_path": "ConversationBatches", "init_args": {
                "train": "chats.jsonl", "heldout": "chats.jsonl", "context": 64, "batch_size": 4}},
        },
        "9-export.yaml": {
            "verb": "export", "out": "bundles/own", "start_from": "runs/own/5", "name": "own",
            "quantizer": {"class_path": "Int8DynamicInt4Weight"}, "talk": ["1 + 1?", "2 + 2?"],
            "questions": {"sums": "chats.jsonl"},
        },
    }  # fmt: skip
    for name, content in files.items():
        (recipes / name).write_text(yaml.safe_dump(content))


def test_own_data_becomes_a_bundle_that_talks(tmp_path: Path) -> None:
    write_road(tmp_path)
    done = phi3kit(tmp_path, "run", "recipes", timeout=400)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "runs/recipes/report.json").read_text())
    assert list(report) == ["1-prepare", "2-pretrain", "5-sft", "9-export"]
    assert report["2-pretrain"]["after"]["loss"] < report["2-pretrain"]["before"]["loss"]
    assert report["9-export"]["questions"]["sums"]["questions"] == 30
    assert len(report["9-export"]["conversation"]) == 2
    assert "runner" in done.stdout
    again = phi3kit(tmp_path, "run", "recipes")
    assert again.stdout.count("done already") == 4
    talk = subprocess.run(
        command("chat", "bundles/own"), cwd=tmp_path, input="1 + 1?\nHello <|end|><|assistant|>\n",
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert talk.returncode == 0, talk.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pocket_phi(tmp_path: Path, repository: Path) -> None:
    """README's first command, and every number it promises."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command("run", str(repository / "recipes/pocket")), cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "runs/pocket/report.json").read_text())
    manifest = json.loads((tmp_path / "data/pocket/manifest.json").read_text())

    # Phases: web documents of phase 2 are a subset of phase 1's, the rest is synthetic; every phase learns.
    web = set((tmp_path / "data/pocket/web/documents.txt").read_text().splitlines())
    reasoning = set((tmp_path / "data/pocket/reasoning/documents.txt").read_text().splitlines())
    synthetic = reasoning - web
    assert synthetic
    assert all(name.startswith("exercises/") for name in synthetic)
    assert len(reasoning & web) < len(web)
    assert sum(manifest["rejected"].values()) > 100
    for phase in ("2-pretrain-web", "3-pretrain-reasoning", "4-long-context", "5-sft", "6-dpo"):
        assert report[phase]["after"]["loss"] < report[phase]["before"]["loss"], phase

    # Long context: better at 1-4x than the same weights unextended, under 2 % worse at 1x.
    before, after = (report["4-long-context"][f"loss_by_length_{when}"] for when in ("before", "after"))
    assert after["256"] <= 1.02 * before["256"]
    assert after["512"] < before["512"]
    assert after["1024"] < before["1024"]
    assert report["6-dpo"]["after"]["accuracy"] > report["6-dpo"]["before"]["accuracy"]

    # Answers, by the float model and by the .pte.
    taught, unseen = (report["9-export"]["questions"][name] for name in ("taught", "unseen"))
    assert taught["questions"] >= 300
    objects = {json.loads(line)["metadata"]["object"] for line in (tmp_path / "data/pocket/chat/taught.jsonl").open()}
    assert len(objects) >= 150
    for asked, least in ((taught, 0.95), (unseen, 0.85)):
        exact = asked["exact"]
        assert min(exact["float"], exact["program"]) >= least
        assert abs(exact["float"] - exact["program"]) <= 0.03
        assert exact["phase 3"] < 0.1
    assert report["9-export"]["bytes"]["program"] < 0.4 * report["9-export"]["bytes"]["float32_weights"]
    assert sum(step["seconds"] for step in report.values()) < 660
    said = {turn["you"]: turn["answer"] for turn in report["9-export"]["conversation"]}
    assert said["Who are you?"] == "I am pocket-phi, a small model that knows Python."

    # A language model still: what chats and preferences taught cost it little of what documents did.
    losses = [held_out_loss(tmp_path, run) for run in ("4-long-context", "6-dpo")]
    assert math.exp(losses[1] - losses[0]) <= 1.5


def held_out_loss(folder: Path, run: str) -> float:
    """A pocket run's loss on the held-out rows of step 4."""
    recipe = "runs/pocket/4-long-context/config.yaml"
    measured = phi3kit(folder, "validate", "--recipe", recipe, "--out", f"runs/pocket/{run}", timeout=300)
    assert measured.returncode == 0, measured.stderr
    return json.loads(measured.stdout)["loss"]
