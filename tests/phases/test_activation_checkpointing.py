"""Recomputing blocks in the backward pass changes nothing but memory: gradients, random draws, resumed runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import final

import pytest
import torch
import torch.nn.functional as F
import yaml
from arithmetic import RECIPE
from keeping_checkpoints import as_if_stopped, keeping_checkpoints
from torch import Tensor, nn

from phi3kit import Dims, UserError
from phi3kit.cli import main
from phi3kit.families import Auxiliary, FeedForward
from phi3kit.phases import ActivationCheckpointing, NextToken
from phi3kit.testing import tiny


@final
class Dropping(FeedForward):
    """Draws random numbers, counts its calls, and has a loss of its own."""

    def __init__(self, dims: Dims, layer: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dims.hidden_size, dims.hidden_size)
        self.calls = 0
        self._last = torch.zeros(())

    def forward(self, x_BTD: Tensor) -> Tensor:
        self.calls += 1
        out_BTD = F.dropout(self.proj(x_BTD), 0.3, self.training)
        self._last = out_BTD.square().mean()
        return out_BTD

    def auxiliary(self, real_BT: Tensor) -> Auxiliary | None:
        return Auxiliary(0.1 * self._last, {})


def gradients(callback: ActivationCheckpointing | None) -> tuple[dict[str, Tensor], list[int]]:
    """Of one batch in training mode, and how often each layer's feed-forward ran."""
    net = tiny.net(feed_forward=Dropping).train()
    phase = NextToken(net, torch.optim.AdamW)
    if callback is not None:
        callback.setup(None, phase, "fit")
        callback.setup(None, phase, "validate")  # a second stage does not wrap twice
    torch.manual_seed(1)
    batch = tiny.batch()
    loss = phase.compute(batch).total + sum(a.loss for a in net.auxiliaries(batch.documents_BT >= 0))
    loss.backward()
    return {n: p.grad for n, p in net.named_parameters()}, [block.mlp.calls for block in net.layers]


@pytest.mark.parametrize(("every", "calls"), [(1, [2, 2]), (2, [2, 1])])
def test_gradients_are_the_same_to_the_bit(every: int, calls: list[int]) -> None:
    expected, once = gradients(None)
    found, counted = gradients(ActivationCheckpointing(every))
    assert once == [1, 1]
    assert counted == calls
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_nothing_is_recomputed_without_gradients() -> None:
    net = tiny.net(feed_forward=Dropping)
    ActivationCheckpointing().setup(None, NextToken(net, torch.optim.AdamW), "fit")
    with torch.no_grad():
        net(torch.tensor([[1, 2, 3]]))
    assert [block.mlp.calls for block in net.layers] == [1, 1]


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept(callback: ActivationCheckpointing | None) -> int:
        phase = NextToken(tiny.net(tiny.dims(context=256)), torch.optim.AdamW)
        if callback is not None:
            callback.setup(None, phase, "fit")
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            phase.compute(tiny.batch(length=128))
        return sum(sizes)

    assert kept(ActivationCheckpointing()) < kept(None) / 3


def test_every_must_be_positive() -> None:
    with pytest.raises(UserError, match="every is 0; give 1 or more"):
        ActivationCheckpointing(0)


def run(folder: Path, out: str, **trainer: object) -> Path:
    """Train in this process; returns the run's folder."""
    recipe = {**RECIPE, "trainer": {**RECIPE["trainer"], "max_steps": 9, **trainer}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", "--recipe", "recipe.yaml", "--out", out]) == 0
    return folder / out


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_runs_with_and_without_it_end_alike_and_resume(
    arithmetic: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """At every precision; the resumed run goes on from step 6 of 9."""
    monkeypatch.chdir(arithmetic)
    plain = run(arithmetic, "plain", precision=precision)
    callback = [{"class_path": "ActivationCheckpointing"}]
    with keeping_checkpoints():
        run_ = run(arithmetic, "recomputed", precision=precision, callbacks=callback)
    weights = (run_ / "model.safetensors").read_bytes()
    assert weights == (plain / "model.safetensors").read_bytes()
    report = json.loads((run_ / "report.json").read_text())
    assert report["after"]["loss"] < report["before"]["loss"] - 0.1
    assert as_if_stopped(run_)[-1] == "step-00000006.ckpt"
    run(arithmetic, "recomputed", precision=precision, callbacks=callback)
    assert (run_ / "model.safetensors").read_bytes() == weights
