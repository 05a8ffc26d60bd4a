"""A run ends at the first step that is not a number, saves nothing of it, and NaN weights are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file, save_file

from phi3kit import Decoder, UserError
from phi3kit.checkpoints import convert
from phi3kit.model import weights
from phi3kit.model.finite import is_finite
from phi3kit.model.load import build_net, load_run, net_section
from phi3kit.phases import NextToken, Phase, Schedule
from phi3kit.phases.checkpoints import Checkpoints
from phi3kit.phases.phase import Loss
from phi3kit.phases.run_folder import RunFolder
from phi3kit.testing import tiny


class NotANumberAt(Phase):
    """Next-token prediction whose loss, or only whose gradient, is NaN at one step; not final, on purpose."""

    def __init__(self, net: Decoder, step: int, what: str) -> None:
        super().__init__(net, lambda p: torch.optim.SGD(p, lr=1e-3), Schedule(shape="constant"))
        self.step, self.what = step, what

    def compute(self, batch) -> Loss:
        total = self.net(batch.tokens_BT).square().sum()
        if torch.is_grad_enabled() and self.trainer.global_step + 1 == self.step:
            total = total * float("nan") if self.what == "loss" else total + (total - total.detach()).sqrt()
        return Loss(total, batch.tokens_BT.numel(), {})


def fit(phase: Phase, folder: Path, steps: int, every: int) -> None:
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Checkpoints(RunFolder(folder), every)],
    )  # fmt: skip
    batches = torch.utils.data.DataLoader([tiny.batch()] * steps, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(phase, train_dataloaders=batches)


def saved(folder: Path) -> list[str]:
    return [path.name for path in RunFolder(folder).checkpoints()]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_first_step_that_is_not_a_number_is_not_taken(tmp_path: Path, what: str) -> None:
    phase = NotANumberAt(tiny.net().train(), 5, what)
    with pytest.raises(UserError, match=r"step 5: loss .*gradient norm nan.*this step was not taken"):
        fit(phase, tmp_path, 8, every=2)
    assert saved(tmp_path)[-1] == "step-00000004.ckpt"
    assert all(is_finite(p) for p in phase.net.parameters())


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (1, 0)])
def test_weights_that_are_not_numbers_are_never_saved(tmp_path: Path, steps: int, every: int) -> None:
    """Loss and gradient are finite, but the step itself goes beyond all numbers."""
    phase = NextToken(tiny.net().train(), lambda p: torch.optim.SGD(p, lr=3e38), Schedule(shape="constant"))
    for parameter in phase.net.parameters():
        parameter.register_hook(lambda gradient: gradient * 1e4)
    with pytest.raises(UserError, match="step 1 left weights that are not numbers"):
        fit(phase, tmp_path, steps, every)
    assert not saved(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_number_among_many_is_found(dtype: torch.dtype, value: float) -> None:
    tensor = torch.ones(300, 7, dtype=dtype)
    assert is_finite(tensor)
    tensor[211, 3] = value
    assert not is_finite(tensor)
    assert is_finite(torch.ones(0))
    assert is_finite(torch.ones(3, dtype=torch.int64))


@pytest.fixture
def broken(tmp_path: Path, tiny_run: Path) -> Path:
    """`tiny_run` with one NaN."""
    run = tmp_path / "broken"
    run.mkdir()
    for path in ("config.yaml", "tokenizer"):
        (run / path).symlink_to(tiny_run / path)
    state = load_file(tiny_run / "model.safetensors")
    state["model.layers.1.mlp.down_proj.weight"][3, 5] = float("nan")
    save_file(state, run / "model.safetensors", metadata={"format": "pt"})
    return run


def test_runs_whose_weights_are_not_numbers_are_refused_by_name(broken: Path, tmp_path: Path) -> None:
    told = r"the weights of .*broken.* are not numbers: .*layers\.1\.mlp\.down_proj\.weight holds nan"
    with pytest.raises(UserError, match=told):  # chat, serve, study
        load_run(broken)
    fresh = build_net(net_section(broken))
    with pytest.raises(UserError, match=told):  # start_from
        weights.load_into(fresh, broken)
    with pytest.raises(UserError, match=told):
        for _ in convert(broken, tmp_path / "public", None):
            pass
    assert not (tmp_path / "public").exists()


def test_export_says_so_before_it_quantizes(broken: Path) -> None:
    from phi3kit.verbs.export_order import _source

    with pytest.raises(UserError, match=r"the weights of .* are not numbers"):
        _source(type("Config", (), {"random": None, "start_from": broken, "net": None}))
