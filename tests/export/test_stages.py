"""What is said about how far a long verb is."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from phi3kit.export import stages
from phi3kit.export.stages import Stages
from phi3kit.native_output import silenced


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds pass whenever somebody looks."""
    ticks = itertools.count(100.0, 10.0)
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(ticks))


def test_stages_are_numbered_and_say_what_is_left(clock, capsys):
    told = Stages({"quantize": 30.0, "lower": 60.0})
    told.begin("quantize")
    told.within(1, 4, "layers.0")
    told.begin("lower")
    told.end()
    assert capsys.readouterr().out.splitlines() == [
        "export [1/2] quantize  (about 90 s left)",
        "  quantize: 1 of 4, then layers.0  (about 30 s left)",
        "export [2/2] lower  (about 60 s left)",
    ]
    assert told.took == {"quantize": 20.0, "lower": 10.0}


def test_not_every_step_is_a_line(capsys):
    told = Stages({"lower": 60.0})
    told.begin("lower")
    for done in range(100):
        told.within(done, 100, "more")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_aloud_is_heard_where_the_rest_is_silenced(clock, capfd):
    told = Stages({"lower": 60.0})
    with open(1, "w", closefd=False) as terminal, contextlib.redirect_stdout(terminal):  # pytest's has no descriptor 1
        told.begin("lower")
        with told.aloud(), silenced():
            print("chatter", flush=True)
            told.within(1, 4, "partition")
        told.within(2, 4, "write")
    said = capfd.readouterr().out
    assert "chatter" not in said
    assert [line.split("  (")[0] for line in said.splitlines()] == [
        "export [1/1] lower",
        "  lower: 1 of 4, then partition",
        "  lower: 2 of 4, then write",
    ]


def test_aloud_where_the_output_is_captured(clock, capsys):
    """No file is behind it, and so nothing is silenced."""
    told = Stages({"lower": 60.0})
    told.begin("lower")
    with told.aloud():
        told.within(1, 4, "partition")
    assert "then partition" in capsys.readouterr().out
