"""A shrunk Phi-3-small goes through pretraining, SFT and DPO, and a run that is resumed ends at the same bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from phi3kit_blocksparse.layout import Phi3SmallLayout
from safetensors.torch import load_file
from slow_phi3small import config

from phi3kit.cli import main
from phi3kit.phases.run_folder import RunFolder
from phi3kit.testing import tiny

FIELDS = config(
    vocab_size=320,
    hidden_size=32,
    num_hidden_layers=2,
    ff_intermediate_size=32,
    initializer_range=0.1,
    mup_width_multiplier=1.0,
)
STEPS, EVERY = 24, 16


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared documents, chats and preferences."""
    folder = tmp_path_factory.mktemp("small")
    pages = [{"id": f"{d.id}/{i}", "text": d.text} for d in tiny.documents() for i in range(4)]
    chats, pairs = [], []
    for i in range(24):
        question = {"role": "user", "content": f"What is {i} plus {i}?"}
        answer = {"role": "assistant", "content": f"It is {2 * i}."}
        chats.append({"id": str(i), "messages": [question, answer]})
        wrong = {"role": "assistant", "content": "No idea."}
        pairs.append({"id": str(i), "prompt": [question], "chosen": [answer], "rejected": [wrong]})
    for name, rows in (("pages", pages), ("chats", chats), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    readers = [{"class_path": "JSONLines", "init_args": {"path": str(folder / "pages.jsonl"), "id_field": "id"}}]
    preparation = {"readers": readers, "vocab_size": FIELDS["vocab_size"], "holdout": 0.2}
    verb("prepare", folder / "data", {"preparation": preparation})
    return folder


def verb(name: str, out: Path, recipe: dict[str, Any]) -> Path:
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"verb": name, "out": str(out), **recipe}))
    assert main([name, "--recipe", str(path)]) == 0
    return out


def fit(folder: Path, out: str, phase: str, data: dict[str, Any], start_from: Path | None = None) -> Path:
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.0}}
    recipe = {
        "tokenizer": str(folder / "data" / "tokenizer"),
        "start_from": start_from and str(start_from),
        "checkpoint_every": EVERY,
        "net": Phi3SmallLayout().net(FIELDS),
        "phase": {"class_path": phase, "init_args": {"optimizer": optimizer}},
        "data": data,
        "trainer": {"max_steps": STEPS, "accelerator": "cpu", "log_every_n_steps": 8, "gradient_clip_val": 1.0},
    }
    return verb("fit", folder / out, recipe)


def files(folder: Path, name: str) -> dict[str, Any]:
    return {"train": str(folder / name), "heldout": str(folder / name), "context": 96, "batch_size": 4}


@pytest.fixture(scope="module")
def runs(room: Path) -> Iterator[dict[str, Path]]:
    """The three phases, each from the one before. Rows of 96 tokens: eight times the window of three blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "keep_newest", lambda self, count: None)  # for the tests of resumption
        yield _three_phases(room)


def _three_phases(room: Path) -> dict[str, Path]:
    stream = {"folder": str(room / "data"), "part": "web", "context": 96, "batch_size": 4}
    web = fit(room, "web", "NextToken", {"class_path": "TokenStream", "init_args": stream})
    chat = {"class_path": "ConversationBatches", "init_args": files(room, "chats.jsonl")}
    sft = fit(room, "sft", "NextToken", chat, web)
    pairs = {"class_path": "PreferenceBatches", "init_args": files(room, "pairs.jsonl")}
    return {"web": web, "sft": sft, "dpo": fit(room, "dpo", "DPO", pairs, sft)}


@pytest.mark.parametrize(("phase", "falls"), [("web", 0.3), ("sft", 1.0), ("dpo", 0.3)])
def test_each_phase_lowers_its_loss(runs, phase, falls):
    report = json.loads((runs[phase] / "report.json").read_text())
    assert report["after"]["loss"] < report["before"]["loss"] - falls


def test_every_parameter_learns(runs):
    before, after = (load_file(runs[phase] / "model.safetensors") for phase in ("web", "sft"))
    assert sum(".query_key_value.bias" in name for name in before) == 2
    still = [name for name in before if not (before[name] != after[name]).any()]
    assert not still


@pytest.mark.parametrize("phase", ["web", "sft", "dpo"])
def test_a_resumed_run_ends_at_the_same_bits(runs, phase):
    """Dropout is on: its draws are part of what is resumed."""
    run = runs[phase]
    whole = (run / "model.safetensors").read_bytes()
    for name in ("done.json", "report.json", "model.safetensors"):
        (run / name).unlink()
    first, last = sorted((run / "checkpoints").iterdir())
    assert first.name == f"step-{EVERY:08d}.ckpt"
    last.unlink()
    assert main(["fit", "--recipe", str(run.with_suffix(".yaml"))]) == 0
    assert (run / "model.safetensors").read_bytes() == whole
