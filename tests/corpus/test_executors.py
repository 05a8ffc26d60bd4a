"""Executors: the same stages on this machine, on Slurm (by the scripts it is given) and on Ray."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from slurm_here import install

from phi3kit.corpus import Local, Ray, Slurm
from phi3kit.corpus.engine.store import Store
from phi3kit.corpus.progress import Progress
from phi3kit.errors import UserError
from phi3kit.testing import contracts
from phi3kit.testing.executor_laws import Marks


@pytest.mark.parametrize("workers", [1, 2])
def test_local(workers: int) -> None:
    contracts.check_executor(lambda: Local(workers))


def test_a_worker_that_is_killed_is_named_at_once(tmp_path: Path) -> None:
    from killed_stage import Suicide

    began = time.monotonic()
    with pytest.raises(UserError, match=r"^suicide: the worker of rank \d was killed by SIGKILL"):
        Store(tmp_path / "stages", Local(2), Progress(quiet=True)).run(Suicide(str(tmp_path)))
    assert time.monotonic() - began < 60
    (tmp_path / "mended").touch()
    done = Store(tmp_path / "stages", Local(2), Progress(quiet=True)).run(Suicide(str(tmp_path)))
    assert [counts["rank"] for counts in done.counts()] == [0, 1, 2]


def test_slurm_by_the_script_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", install(tmp_path / "bin", works=False)["PATH"])
    executor = Slurm("compute", time="01:00:00", gigabytes=3, options={"account": "phi"}, seconds_between_looks=0.1)
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match="marks: rank 0 of 3 ended without a result"):  # the job was lost
        Store(tmp_path / "stages", executor, Progress(quiet=True)).run(Marks(str(tmp_path / "notes")))
    (log,) = (tmp_path / "stages").glob("marks-*/log")
    script = (log / "launch_script.slurm").read_text()
    for line in ("partition=compute", "time=01:00:00", "mem-per-cpu=3G", "account=phi", "job-name=phi3kit-marks"):
        assert f"#SBATCH --{line}\n" in script
    assert "#SBATCH --array=0-2\n" in script
    assert f"launch_pickled_pipeline {log / 'executor.pik'}" in script


@pytest.mark.slow
def test_slurm_runs_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", install(tmp_path / "bin")["PATH"])
    contracts.check_executor(lambda: Slurm("compute", seconds_between_looks=0.1))


def test_slurm_that_does_not_take_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match=r"sbatch did not take .*launch_script\.slurm"):
        Store(tmp_path / "stages", Slurm("x"), Progress(quiet=True)).run(Marks(str(tmp_path / "notes")))


@pytest.mark.slow
def test_ray_with_two_workers() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    contracts.check_executor(lambda: Ray(2))


def test_workers_must_be_some() -> None:
    with pytest.raises(UserError, match="workers is 0"):
        Local(0)


def test_two_runs_of_one_folder_do_not_mix(tmp_path: Path) -> None:
    store = Store(tmp_path / "stages", Local(1), Progress(quiet=True))
    with (
        store.lock(),
        pytest.raises(UserError, match="another `prepare` is at work"),
        Store(tmp_path / "stages", Local(1), Progress(quiet=True)).lock(),
    ):
        pass
