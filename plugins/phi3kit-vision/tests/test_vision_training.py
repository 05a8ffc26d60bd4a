"""A shrunk Phi-3-vision through pretraining, SFT and DPO: it learns to see, and resumes exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_pictures import DATA, RECIPE, recipe, write_pictures, write_recipe
from lightning import Callback, Trainer
from phi3kit_vision.conversation_batches import ImageConversationBatches
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.image_files import read_image
from phi3kit_vision.prompt import render_pictured

from phi3kit import Decoder, Message, Pictures
from phi3kit.cli import main
from phi3kit.model.load import build_net, load_run
from phi3kit.phases import NextToken, Phase
from phi3kit.text import load_tokenizer, stop_ids

DPO = {
    "class_path": "DPO",
    "init_args": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0005}}},
}
HD = HDTransform(DATA["crops"], DATA["view"], DATA["patch"])


def fit(folder: Path, name: str, content: dict[str, Any]) -> dict[str, Any]:
    """Train in a folder; the run's report."""
    write_recipe(folder / f"{name}.yaml", content)
    assert main(["fit", "--recipe", str(folder / f"{name}.yaml"), "--out", str(folder / name)]) == 0
    return json.loads((folder / name / "report.json").read_text())


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures and texts about them, the current one."""
    monkeypatch.chdir(tmp_path)
    return write_pictures(tmp_path)


def steps(n: int, **changes: Any) -> dict[str, Any]:
    return {"trainer": {**RECIPE["trainer"], "max_steps": n}, **changes}


def test_all_three_phases_lower_their_losses(pictures: Path):
    pretrained = fit(pictures, "pretrained", recipe("captions", "ImageTextBatches", **steps(40)))
    assert pretrained["after"]["loss"] < 0.5 * pretrained["before"]["loss"]
    tuned = recipe("chats", "ImageConversationBatches", **steps(40, start_from="pretrained"))
    tuned = fit(pictures, "tuned", tuned)
    assert tuned["after"]["loss"] < 0.5 * tuned["before"]["loss"]
    preferred = recipe("pairs", "ImagePreferenceBatches", **steps(16, start_from="tuned", phase=DPO))
    preferred = fit(pictures, "preferred", preferred)
    unused = [name for name, p in load_run(pictures / "preferred").named_parameters() if not p.requires_grad]
    assert any("post_layernorm" in name for name in unused)
    assert preferred["before"]["loss"] == pytest.approx(0.6931, abs=1e-3)  # the reference itself: log 2
    assert preferred["after"]["loss"] < 0.68
    assert preferred["after"]["reward_margin"] > 0.02


class Gradients(Callback):
    """Which parameters ever had a gradient that is not zero."""

    def __init__(self) -> None:
        self.reached: set[str] = set()

    def on_before_optimizer_step(self, trainer: Any, phase: Any, optimizer: Any) -> None:
        named = phase.net.named_parameters()
        self.reached |= {name for name, p in named if p.grad is not None and bool(p.grad.abs().max() > 1e-12)}


@pytest.mark.parametrize("frozen", [False, True])
def test_what_should_learn_learns(pictures: Path, frozen: bool):
    section = json.loads(json.dumps(RECIPE["net"]))
    section["vision"]["init_args"]["frozen"] = frozen
    torch.manual_seed(0)
    net = build_net(section)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    files = {part: pictures / f"chats-{part}.jsonl" for part in ("train", "heldout")}
    data = ImageConversationBatches(load_tokenizer(pictures / "tokenizer"), **files, **DATA)
    seen = Gradients()
    trainer = Trainer(max_steps=4, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
                      enable_progress_bar=False, enable_model_summary=False, callbacks=[seen])  # fmt: skip
    trainer.fit(NextToken(net, lambda groups: torch.optim.AdamW(groups, lr=1e-3)), data)
    clip = "vision_embed_tokens.img_processor"
    never_run = ("encoder.layers.2.", "post_layernorm")
    still = {name for name in before if name.startswith(clip) and (frozen or any(part in name for part in never_run))}
    rounding = {name for name in before if name.endswith("k_proj.bias")}  # a bias on all keys alike shifts no score
    assert still, "nothing is frozen"
    assert seen.reached | rounding == before.keys() - still | rounding
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert moved | rounding == before.keys() - still | rounding


@torch.no_grad()
def answer(net: Decoder, folder: Path, text: str, images: list[str]) -> str:
    """What the net says to a question about images, greedily."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    seen = [HD(read_image(folder / image)) for image in images]
    lengths = [HD.count(read_image(folder / image).size) for image in images]
    ids = render_pictured([Message("user", text)], lengths, tokenizer, generation=True).ids
    shown = Pictures(torch.cat([views for views, _ in seen]), [grid for _, grid in seen])
    said: list[int] = []
    while len(said) < 12 and not set(said) & set(stop_ids(tokenizer)):
        said.append(int(net(torch.tensor([[*ids, *said]]), pictures=shown)[0, -1].argmax()))
    return tokenizer.decode(said[:-1])


def accuracy(net: Decoder, folder: Path, images: int) -> float:
    """Share of the held-out questions about so many images that are answered exactly."""
    rows = [json.loads(line) for line in (folder / "chats-heldout.jsonl").read_text().splitlines()]
    asked = [row for row in rows if len(row.get("images", [])) == images]
    assert len(asked) > 10
    right = [
        answer(net, folder, r["messages"][0]["content"], r["images"]) == r["messages"][1]["content"] for r in asked
    ]
    return sum(right) / len(right)


def test_it_learns_to_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pictures it never saw: their colour, and the colours of two of them in order. Guessing gives 1/4 and 1/16."""
    monkeypatch.chdir(tmp_path)
    folder = write_pictures(tmp_path, pictures=96)
    fit(folder, "run", recipe("chats", "ImageConversationBatches", **steps(150)))
    net = load_run(folder / "run")
    assert accuracy(net, folder, 1) >= 0.9
    assert accuracy(net, folder, 2) >= 0.8


@pytest.mark.parametrize(("kind", "data", "changes"), [
    ("captions", "ImageTextBatches", {}),
    ("chats", "ImageConversationBatches", {}),
    ("pairs", "ImagePreferenceBatches", {"phase": DPO}),
])  # fmt: skip
def test_a_run_stopped_half_way_ends_as_if_it_had_not(pictures: Path, kind: str, data: str, changes: dict[str, Any]):
    content = recipe(kind, data, **changes)
    fit(pictures, "whole", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Phase, "on_before_optimizer_step", dying(Phase.on_before_optimizer_step, step=7))
        write_recipe(pictures / "stopped.yaml", content)
        assert main(["fit", "--recipe", "stopped.yaml", "--out", "stopped"]) == 130
    assert [path.name for path in (pictures / "stopped" / "checkpoints").iterdir()] == ["step-00000004.ckpt"]
    fit(pictures, "stopped", content)
    whole, stopped = ((pictures / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped


def dying(usual: Callable[..., None], step: int) -> Callable[..., None]:
    """The method until a step, where Ctrl-C comes."""

    def method(phase: Phase, optimizer: torch.optim.Optimizer) -> None:
        if phase.trainer.global_step == step:
            raise KeyboardInterrupt
        usual(phase, optimizer)

    return method
