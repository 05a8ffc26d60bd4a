"""A run that a time limit or Ctrl-C stops goes on with the same command; a finished one can be made longer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from arithmetic import RECIPE, environment

from phi3kit import UserError
from phi3kit.cli import main
from phi3kit.phases import Phase
from phi3kit.phases.stopping import TimeLimit
from phi3kit.verbs.fit import STOPPED


@pytest.fixture(autouse=True)
def here(arithmetic: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(arithmetic)
    return arithmetic


def fit(
    out: str,
    steps: int,
    every: int = 0,
    schedule: dict[str, Any] | None = None,
    optimizer: str = "torch.optim.AdamW",
    **trainer: Any,
) -> int:
    phase = json.loads(json.dumps(RECIPE["phase"]))
    phase["init_args"]["schedule"] = schedule or {}
    phase["init_args"]["optimizer"]["class_path"] = optimizer
    trainer = {**RECIPE["trainer"], "log_every_n_steps": None, "max_steps": steps, **trainer}
    recipe = {**RECIPE, "phase": phase, "checkpoint_every": every, "trainer": trainer}
    Path(f"{out}.yaml").write_text(yaml.safe_dump(recipe))
    return main(["fit", "--recipe", f"{out}.yaml", "--out", out])


def weights(run: str) -> bytes:
    return (Path(run) / "model.safetensors").read_bytes()


def checkpoints(run: str) -> list[str]:
    return sorted(path.name for path in Path(run, "checkpoints").glob("*"))


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Any) -> Any:
    """Do something while a step is taken."""
    usual = Phase.on_before_optimizer_step

    def method(phase: Phase, optimizer: torch.optim.Optimizer) -> None:
        if phase.trainer.global_step + 1 == step:
            act()
        usual(phase, optimizer)

    monkeypatch.setattr(Phase, "on_before_optimizer_step", method)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("options", [{}, {"precision": "bf16-true"}, {"optimizer": "schedulefree.AdamWScheduleFree"}])
def test_ctrl_c_saves_the_step_and_the_same_command_ends_alike(
    capsys, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    if "optimizer" in options:
        pytest.importorskip("schedulefree")
    assert fit("whole", 7, **options) == 0
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert fit("run", 7, **options) == 130
    assert "stopping at the end of this step" in capsys.readouterr().err
    assert checkpoints("run") == ["step-00000004.ckpt"]
    assert not Path("run/done.json").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert fit("run", 7, **options) == 0
    assert weights("run") == weights("whole")


def test_a_time_limit_is_no_end(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimeLimit, "time_elapsed", lambda self, stage="train": 9.0)
    limit = {"max_time": "00:00:00:05"}
    assert [fit("run", 3, **limit) for _ in range(2)] == [STOPPED, STOPPED]
    assert "stopped at step 2 of 3 by trainer.max_time; the same command goes on from here" in capsys.readouterr().out
    assert not {"done.json", "model.safetensors", "report.json"}.intersection(os.listdir("run"))
    assert fit("run", 3, **limit) == 0
    assert fit("whole", 3) == 0
    assert weights("run") == weights("whole")


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"trainer\.max_time: .*soon"):
        TimeLimit("soon")


def test_a_finished_run_keeps_one_checkpoint_and_goes_on_when_it_is_made_longer(capsys) -> None:
    shape = {"schedule": {"shape": "constant"}}
    assert fit("run", 5, every=2, **shape) == 0
    assert checkpoints("run") == ["step-00000005.ckpt"]
    assert fit("run", 9, every=2, **shape) == 0
    assert "9 steps instead of 5" in capsys.readouterr().out
    assert fit("whole", 9, every=2, **shape) == 0
    assert weights("run") == weights("whole")
    assert json.loads(Path("run/report.json").read_text())["steps"] == 9
    assert fit("run", 9, every=2, **shape) == 0
    assert "done already" in capsys.readouterr().out
    assert fit("run", 4, every=2, **shape) == 2
    assert "differs in trainer.max_steps" in capsys.readouterr().err


def test_a_longer_run_follows_the_longer_schedule_from_its_first_new_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"schedule": {"shape": "linear", "floor": 0.0}}
    rates: dict[int, float] = {}
    usual = Phase.on_before_optimizer_step

    def method(phase: Phase, optimizer: torch.optim.Optimizer) -> None:
        rates[phase.trainer.global_step] = optimizer.param_groups[0]["lr"]
        usual(phase, optimizer)

    monkeypatch.setattr(Phase, "on_before_optimizer_step", method)
    assert fit("run", 3, every=5, **shape) == 0
    assert fit("run", 6, every=5, **shape) == 0
    assert [rates[step] / 0.003 for step in range(6)] == pytest.approx([1.0, 0.5, 0.0, 0.4, 0.2, 0.0])


def test_a_run_without_checkpoints_says_that_it_cannot_be_longer(capsys) -> None:
    assert fit("run", 2, every=0) == 0
    assert fit("run", 4, every=0) == 2
    assert "kept no checkpoint to go on from (checkpoint_every is 0)" in capsys.readouterr().err


def test_metrics_come_every_few_steps_and_lines_by_time(capsys) -> None:
    """The first step and the last have a line, those between only after half a minute."""
    mask = os.umask(0o022)
    os.umask(mask)
    assert fit("run", 12) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "step " in line]
    assert [line.split("step ")[1].split("/")[0] for line in lines] == ["1", "12"]
    steps = [line.split(",")[0] for line in Path("run/metrics.csv").read_text().splitlines()]
    assert steps == ["step", *map(str, range(1, 13))]
    assert Path("run/model.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
    assert fit("each", 4, log_every_n_steps=2) == 0
    assert "step 2/4" in capsys.readouterr().err


def test_a_profiler_is_heard() -> None:
    code = (
        f"from phi3kit.cli import main; import sys; sys.exit(main({['fit', '--recipe', 'run.yaml', '--out', 'run']}))"
    )
    assert fit("other", 1) == 0
    recipe = yaml.safe_load(Path("other.yaml").read_text())
    recipe["trainer"]["profiler"] = "simple"
    Path("run.yaml").write_text(yaml.safe_dump(recipe))
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert "Profiler Report" in done.stdout + done.stderr
