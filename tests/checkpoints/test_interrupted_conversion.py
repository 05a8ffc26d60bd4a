"""Whatever stops a conversion leaves no folder that looks complete; the next one starts over and succeeds."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

import pytest
from public_checkpoints import BASE, same_files, write_checkpoint

from phi3kit import UserError
from phi3kit.checkpoints import convert, plan
from phi3kit.cli import main

KILLED = """
import os, signal, sys
from pathlib import Path
from phi3kit.checkpoints import convert

def show(written, size):
    for n in written:
        yield n
        os.kill(os.getpid(), signal.SIGKILL)

convert(Path(sys.argv[1]), Path(sys.argv[2]), show=show)
"""


def stopping(written, size):
    for _, n in zip(range(3), written, strict=False):
        yield n
    raise KeyboardInterrupt


@pytest.fixture
def public(tmp_path):
    return write_checkpoint(tmp_path / "public", BASE)


@pytest.fixture
def run(public, tmp_path):
    convert(public, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("way", ["public", "run"])
def test_ctrl_c_leaves_nothing(way, request, tmp_path):
    folder = request.getfixturevalue(way)
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "out", show=stopping)
    assert not list(tmp_path.glob("out*"))


def test_ctrl_c_is_said(public, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("phi3kit.verbs.convert.progress", stopping)
    assert main(["convert", str(public), str(tmp_path / "out")]) == 130
    assert f"stopped; nothing is left at {tmp_path / 'out'}" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["public", "run"])
def test_a_killed_one_looks_unfinished_and_the_next_sweeps_it(way, request, tmp_path):
    folder, out = request.getfixturevalue(way), tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, folder, out], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    left = tmp_path / "out.partial"
    assert left.is_dir()
    with pytest.raises(UserError, match="is neither a checkpoint folder"):
        plan(left)
    convert(folder, out)
    assert not left.exists()
    if way == "run":
        assert same_files(request.getfixturevalue("public"), out)


@pytest.mark.parametrize("way", ["public", "run"])
def test_a_full_disk_shows_before_anything_is_copied(way, request, tmp_path):
    folder, copied = request.getfixturevalue(way), []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(
            UserError, match=r"the disk is full: .*out needs 0\.00 GB, .* GB are free; nothing was writ"
        ):
            convert(folder, tmp_path / "out", show=lambda written, size: map(copied.append, written))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not copied
    assert not list(tmp_path.glob("out*"))
