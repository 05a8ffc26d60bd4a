"""A shrunk Phi-3.5-MoE goes through pretraining, SFT and DPO, and a run that is resumed ends at the same bits."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from phi3kit_moe.layout import PhiMoELayout
from phimoe_twin import config
from safetensors.torch import load_file

from phi3kit.cli import main
from phi3kit.phases.run_folder import RunFolder
from phi3kit.testing import tiny

FIELDS = config(
    vocab_size=320,
    hidden_size=32,
    intermediate_size=32,
    num_local_experts=4,
    max_position_embeddings=64,
    router_jitter_noise=0.1,
    input_jitter_noise=0.01,
    router_aux_loss_coef=0.02,
    initializer_range=0.1,
    rope_scaling=None,
)
STEPS, EVERY = 24, 16


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared documents, chats and preferences."""
    folder = tmp_path_factory.mktemp("moe")
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
    verb(folder, "prepare", {"verb": "prepare", "out": str(folder / "data"), "preparation": preparation})
    return folder


def verb(folder: Path, name: str, recipe: dict[str, Any]) -> None:
    path = folder / f"{recipe['out'].rpartition('/')[-1]}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert main([name, "--recipe", str(path)]) == 0


def fit(folder: Path, out: str, phase: str, data: dict[str, Any], start_from: str | None = None, **net: Any) -> Path:
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003, "weight_decay": 0.0}}
    recipe = {
        "verb": "fit",
        "out": str(folder / out),
        "tokenizer": str(folder / "data" / "tokenizer"),
        "start_from": start_from and str(folder / start_from),
        "checkpoint_every": EVERY,
        "net": {**PhiMoELayout().net(FIELDS), **net},
        "phase": {"class_path": phase, "init_args": {"optimizer": optimizer}},
        "data": data,
        "trainer": {"max_steps": STEPS, "accelerator": "cpu", "log_every_n_steps": 8, "gradient_clip_val": 1.0},
    }
    verb(folder, "fit", recipe)
    return folder / out


def files(folder: Path, name: str) -> dict[str, Any]:
    return {"train": str(folder / name), "heldout": str(folder / name), "context": 64, "batch_size": 4}


@pytest.fixture(scope="module")
def runs(room: Path) -> Iterator[dict[str, Path]]:
    """The three phases, each from the one before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "keep_newest", lambda self, count: None)  # for the tests of resumption
        yield _three_phases(room)


def _three_phases(room: Path) -> dict[str, Path]:
    stream = {"folder": str(room / "data"), "part": "web", "context": 64, "batch_size": 4}
    web = fit(room, "web", "NextToken", {"class_path": "TokenStream", "init_args": stream})
    chat = {"class_path": "ConversationBatches", "init_args": files(room, "chats.jsonl")}
    sft = fit(room, "sft", "NextToken", chat, "web")
    pairs = {"class_path": "PreferenceBatches", "init_args": files(room, "pairs.jsonl")}
    dpo = fit(room, "dpo", "DPO", pairs, "sft")
    return {"web": web, "sft": sft, "dpo": dpo}


@pytest.mark.parametrize(("phase", "falls"), [("web", 0.3), ("sft", 1.0), ("dpo", 0.3)])
def test_each_phase_lowers_its_loss(runs, phase, falls):
    report = json.loads((runs[phase] / "report.json").read_text())
    assert report["after"]["loss"] < report["before"]["loss"] - falls
    if phase == "dpo":
        assert report["after"]["accuracy"] >= report["before"]["accuracy"]


def test_every_parameter_learns_the_gates_included(runs):
    before, after = (load_file(runs[phase] / "model.safetensors") for phase in ("web", "sft"))
    assert any(".router.gate." in name for name in before)
    still = [name for name in before if not (before[name] != after[name]).any()]
    assert not still


def test_the_balance_is_logged(runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(runs["web"] / "tensorboard")).Reload()
    last = {name.removeprefix("train/"): log.Scalars(name)[-1].value for name in log.Tags()["scalars"]}
    assert last["balance_loss"] >= 1.0  # 2 where all is even
    shares = [last[f"expert_{e:02}"] for e in range(4)]
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert last["idlest_expert"] <= min(shares) <= max(shares) <= last["busiest_expert"]
    *_, row = csv.DictReader((runs["web"] / "metrics.csv").open())
    assert {name: float(row[name]) for name in last if name in row and name != "tokens_per_second"} == pytest.approx(
        {name: value for name, value in last.items() if name in row and name != "tokens_per_second"}, rel=1e-5
    )
    assert "expert_03" in row


@pytest.mark.parametrize("phase", ["web", "sft", "dpo"])
def test_a_resumed_run_ends_at_the_same_bits(runs, phase):
    run = runs[phase]
    whole = (run / "model.safetensors").read_bytes()
    for name in ("done.json", "report.json", "model.safetensors"):
        (run / name).unlink()
    first, last = sorted((run / "checkpoints").iterdir())
    assert first.name == f"step-{EVERY:08d}.ckpt"
    last.unlink()
    assert main(["fit", "--recipe", str(run.parent / f"{phase}.yaml")]) == 0
    assert (run / "model.safetensors").read_bytes() == whole
