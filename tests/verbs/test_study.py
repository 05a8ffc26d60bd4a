"""`phi3kit study`: every arm with every seed, once; killed, it goes on; what is done and unchanged stays as it is."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from arithmetic import RECIPE, command, environment, phi3kit

from phi3kit.cli import main

STUDY: dict[str, Any] = {
    "verb": "study",
    "out": "out",
    "study": {
        "recipes": ["fit.yaml"],
        "arms": [
            {"name": "short", "about": "6 steps", "keys": {"trainer.max_steps": 6}},
            {"name": "long", "about": "60 steps", "keys": {"trainer.max_steps": 60}},
        ],
        "seeds": [1, 2],
        "texts": [
            {
                "name": "sums",
                "passage": 200,
                "reader": {"class_path": "JSONLines", "init_args": {"path": "sums.jsonl"}},
            },
        ],
        "questions": [{"name": "which", "path": "which.jsonl"}],
        "reported": {"loss": "after.loss"},
        "training": [{"class_path": "JSONLines", "init_args": {"path": "taught.jsonl"}}],
        "words_in_a_row": 6,
    },
}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def study(arithmetic: Path) -> Path:
    """Sums as held-out text, one of them leaked; questions that no net can answer better than by guessing."""
    (arithmetic / "fit.yaml").write_text(yaml.safe_dump(RECIPE))
    (arithmetic / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    leaked = "It is said that one plus one makes two."
    write(arithmetic, "sums.jsonl", [{"text": f"It is {2 * i + 1}. What is {i} plus {i + 2}?"} for i in range(70, 80)])
    write(arithmetic, "taught.jsonl", [{"text": f"Before: {leaked} After."}])
    with (arithmetic / "sums.jsonl").open("a") as file:
        file.write(json.dumps({"text": leaked}) + "\n")
    write(arithmetic, "which.jsonl", [{"query": "What is", "choices": ["a", "b"], "gold": i % 2} for i in range(8)])
    return arithmetic


def times(folder: Path) -> Mapping[str, float]:
    return {str(f.relative_to(folder)): f.stat().st_mtime for f in sorted(folder.glob("out/runs/*/*/done.json"))}


def test_arms_and_seeds_are_trained_measured_and_compared(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    assert main(["study", "--recipe", "study.yaml"]) == 0
    out = capsys.readouterr().out
    assert (
        out.index("[1/4] arm short, seed 1")
        < out.index("[2/4] arm long, seed 1")
        < out.index("[3/4] arm short, seed 2")
    )
    assert "tables: out/results.md" in out
    report = json.loads((study / "out/report.json").read_text())
    sums, which, loss = report["measures"]
    assert sums["notes"].startswith("10 passages")
    assert sums["notes"].endswith("1 left out that training texts repeat")
    for seed in ("1", "2"):
        assert sums["values"]["long"][seed] < sums["values"]["short"][seed]
        of_the_run = json.loads((study / f"out/runs/long/seed-{seed}/report.json").read_text())
        assert loss["values"]["long"][seed] == of_the_run["after"]["loss"]
    assert sums["values"]["long"]["1"] != sums["values"]["long"]["2"]
    assert sums["difference"]["long"]["mean"] < 0
    assert which["chance"] == 0.5
    assert not any(which["above_chance"].values()), "the same two choices, right by turns"
    table = (study / "out/results.md").read_text()
    assert "- which: no arm answers better than guessing (0.500)" in table
    assert f"{sums['spread']['long']['mean']:.3f} ± " in table
    assert (study / "out/plot.svg").read_text().count("<title>") == 4, "two arms, two measures"

    before = times(study)
    assert len(before) == 4
    assert main(["study", "--recipe", "study.yaml"]) == 0  # nothing to do
    assert times(study) == before
    changed = STUDY | {"study": STUDY["study"] | {"seeds": [1, 2, 3]}}
    changed["study"]["arms"] = [
        STUDY["study"]["arms"][0] | {"keys": {"trainer.max_steps": 7}},
        STUDY["study"]["arms"][1],
    ]
    (study / "study.yaml").write_text(yaml.safe_dump(changed))
    assert main(["study", "--recipe", "study.yaml"]) == 0
    after = times(study)
    assert [run for run in before if after[run] == before[run]] == [f"out/runs/long/seed-{s}/done.json" for s in (1, 2)]
    assert len(after) == 6
    report = json.loads((study / "out/report.json").read_text())
    assert report["measures"][0]["spread"]["short"]["seeds"] == 3

    changed["study"]["texts"] = [STUDY["study"]["texts"][0] | {"passages": 4}]  # measured anew, not trained anew
    (study / "study.yaml").write_text(yaml.safe_dump(changed))
    assert main(["study", "--recipe", "study.yaml"]) == 0
    assert times(study) == after
    again = json.loads((study / "out/report.json").read_text())["measures"]
    assert again[0]["notes"].startswith("4 passages")
    assert again[0]["values"] != report["measures"][0]["values"]
    assert again[1:] == report["measures"][1:]


def test_killed_it_goes_on_and_ends_with_the_same_numbers(study: Path) -> None:
    (study / "fit.yaml").write_text(yaml.safe_dump({**RECIPE, "checkpoint_every": 10}))
    process = subprocess.Popen(
        command("study", "--recipe", "study.yaml"), cwd=study, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(study.glob("out/runs/long/seed-1/checkpoints/*.ckpt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (study / "out/report.json").exists()
    done = phi3kit(study, "study", "--recipe", "study.yaml")
    assert done.returncode == 0, done.stderr
    assert "[1/4] arm short, seed 1: done already" in done.stdout
    assert "going on from step-" in done.stdout
    found = json.loads((study / "out/report.json").read_text())
    straight = phi3kit(study, "study", "--recipe", "study.yaml", "--out", "straight")
    assert straight.returncode == 0, straight.stderr
    assert json.loads((study / "straight/report.json").read_text()) == found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": [1, 1]}, "the seeds of a study are [1, 1]; give at least one, each once"),
        ({"arms": []}, "the arms of a study are []; give at least one, each once"),
        ({"texts": [], "questions": [], "reported": {}}, "the measures of a study are []"),
        ({"plot_against": "sum"}, "plot_against is 'sum', which is not measured; it is one of sums, which, loss"),
        ({"recipes": ["absent.yaml"]}, "there is no recipe 'absent.yaml'"),
        ({"recipes": []}, "the recipes of arm 'short' do not say which verb runs them"),
        ({"words_in_a_row": 3, "training": [{"class_path": "JSONLines", "init_args": {"path": "sums.jsonl"}}]},
         "every passage of 'sums' repeats training texts"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_is_one_line(
    changes: dict[str, Any], told: str, study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    (study / "study.yaml").write_text(yaml.safe_dump(STUDY | {"study": STUDY["study"] | changes}))
    assert main(["study", "--recipe", "study.yaml"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_other_folders_and_verbs_are_refused(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    (study / "mine").mkdir()
    assert main(["study", "--recipe", "study.yaml", "--out", "mine"]) == 2
    assert "mine exists and `study` did not make it; choose another `out`" in capsys.readouterr().err
    (study / "fit.yaml").write_text("verb: chat\n")
    assert main(["study", "--recipe", "study.yaml"]) == 2
    assert "an arm runs score fit, prepare, fit, export, not 'chat'" in capsys.readouterr().err
