"""Two processes never write into one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from phi3kit import UserError
from phi3kit.verbs import fit
from phi3kit.verbs.alone import ONE_OF_SEVERAL, alone

HOLD = "import sys, pathlib; from phi3kit.verbs.alone import alone\nwith alone(pathlib.Path(sys.argv[1])): input('in')"


def test_a_second_one_is_refused_until_the_first_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ONE_OF_SEVERAL:
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "run"
    with alone(out):
        with alone(tmp_path / "another"):
            pass
        with pytest.raises(UserError, match=r"another phi3kit is writing to .*run; wait for it"), alone(out):
            pytest.fail("let in")
    command = [sys.executable, "-c", HOLD, str(out)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.read(2) == b"in"
    with pytest.raises(UserError, match="another phi3kit"), alone(out):
        pytest.fail("let in")
    first.kill()
    first.wait()
    with alone(out):
        assert list(tmp_path.iterdir()) == []


def test_a_worker_that_outlives_it_holds_nothing(tmp_path: Path):
    """As a data loader's does, for seconds, when a training is killed."""
    forked = "import os, time\nif os.fork() == 0: print('in', end='', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", HOLD.replace("input('in')", f"exec({forked!r}); input()"), str(tmp_path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert first.stdout is not None
    assert first.stdout.read(2) == b"in"
    first.kill()
    first.wait()
    with alone(tmp_path):
        os.killpg(first.pid, signal.SIGKILL)


def test_processes_of_one_training_share_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with alone(tmp_path), alone(tmp_path):
        pass


def test_fit_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = tmp_path / "fit.yaml"
    recipe.write_text(f"out: {tmp_path / 'run'}\n")
    monkeypatch.setattr(fit.recipes, "read", lambda *arguments: type("Recipe", (), {"out": tmp_path / "run"}))
    with alone(tmp_path / "run"), pytest.raises(UserError, match="another phi3kit"):
        fit.main(["--recipe", str(recipe)])
