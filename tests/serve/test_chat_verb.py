"""``phi3kit chat``, piped."""

from __future__ import annotations

import io
import subprocess
import sys

from phi3kit.cli import main


def test_in_a_pipe(tiny_bundle, memorised):
    """A process of its own: what it prints, on both streams, is the conversation and nothing else."""
    first, second = list(memorised)[:2]
    done = subprocess.run(
        [sys.executable, "-m", "phi3kit.cli", "chat", str(tiny_bundle)],
        input=f"{first}\n/reset\n\n{second}\n".encode(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == [memorised[first], memorised[second]]
    assert done.stderr.decode() == ""


def test_a_turn_too_long_is_one_line_and_not_the_end(tiny_run, memorised, monkeypatch, capsys):
    first = next(iter(memorised))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{'word ' * 200}\n{first}\n"))
    assert main(["chat", str(tiny_run)]) == 0
    printed = capsys.readouterr()
    assert printed.out == memorised[first] + "\n"
    assert printed.err.count("\n") == 1
    assert "128 of 128 are left" in printed.err


def test_a_cut_answer_is_said(tiny_run, memorised, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(next(iter(memorised)) + "\n"))
    assert main(["chat", str(tiny_run), "--max-new-tokens", "2"]) == 0
    assert "(cut after 2 tokens" in capsys.readouterr().err


def test_a_temperature_that_makes_no_sense(tiny_run, capsys):
    assert main(["chat", str(tiny_run), "--temperature", "-1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("phi3kit: error: temperature -1.0 is negative; 0 is greedy")
    assert error.count("\n") == 1
