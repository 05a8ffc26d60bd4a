"""``phi3kit run FOLDER``: a folder's numbered recipes in order; what is done and unchanged is skipped.

A step is done under the fingerprint of its recipe and of every step before it, so a changed recipe makes that
step and those after it run again. A step that was stopped goes on where it was. The state is one file,
``runs/FOLDER/run.json``; the numbers of all steps end up beside it in ``report.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from phi3kit import __version__
from phi3kit import recipe as recipes
from phi3kit.errors import UserError, nearest
from phi3kit.verbs import data_prints
from phi3kit.verbs.alone import alone
from phi3kit.verbs.fit import STOPPED
from phi3kit.verbs.summary import show

WRITING_VERBS = ("score fit", "prepare", "fit", "study", "export")


@dataclass(frozen=True)
class Step:
    """One numbered recipe.

    Args:
        recipe: its file.
        verb: the verb that runs it.
        out: the folder it writes.
        fingerprint: of its content and everything before it.
        minutes: about how long it takes, as the recipe says.
    """

    recipe: Path
    verb: str
    out: Path
    fingerprint: str
    minutes: float

    @property
    def name(self) -> str:
        return self.recipe.stem


def main(arguments: list[str]) -> int:
    """Run the verb."""
    parser = argparse.ArgumentParser(prog="phi3kit run", allow_abbrev=False, description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of numbered recipes, e.g. recipes/pocket")
    parser.add_argument("--state", type=Path, help="where run.json and report.json go; default runs/FOLDER")
    parser.add_argument("--list", action="store_true", help="say what would run, and run nothing")
    options = parser.parse_args(arguments)
    steps = list(read_steps(options.folder))
    state = State(options.state or Path("runs") / options.folder.resolve().name)
    if options.list:
        for step in steps:
            print(f"{step.name:<24} {step.verb:<8} {state.of(step):<8} {step.out}")
        return 0
    with alone(state.folder):
        run(steps, state)
    return 0


def read_steps(folder: Path) -> Iterator[Step]:
    """The folder's numbered recipes, in order, each with its fingerprint."""
    files = sorted(folder.glob("[0-9]*.yaml"), key=lambda f: (int(f.name.split("-")[0]), f.name))
    if not files:
        raise UserError(f"{folder} holds no numbered recipes (1-prepare.yaml, 2-…); give such a folder")
    before = __version__
    for file in files:
        content = recipes.merge(recipes.read_layers(file))
        verb = content.get("verb")
        if verb not in WRITING_VERBS:
            told = (
                f"names no verb that writes{nearest(str(verb), WRITING_VERBS)}"
                if verb
                else "does not say which verb runs it"
            )
            raise UserError(f"{file} {told}; a recipe says e.g. `verb: fit`")
        if not content.get("out"):
            raise UserError(f"{file} does not say where to write; add `out: FOLDER`")
        minutes = float(content.pop("minutes", None) or 1.0)
        before = hashlib.sha256(json.dumps([before, content], sort_keys=True).encode()).hexdigest()
        yield Step(file, verb, Path(content["out"]), before, minutes)


class State:
    """What has been run, in ``run.json``.

    Args:
        folder: where run.json is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "run.json"
        self.steps: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def of(self, step: Step) -> str:
        """ "done", "started", "changed" or "new"."""
        known = self.steps.get(step.name)
        if known is None:
            return "new"
        if known["fingerprint"] != step.fingerprint:
            return "changed"
        return "done" if known["done"] and step.out.exists() else "started"

    def record(self, step: Step, *, done: bool, seconds: float = 0.0) -> None:
        """Note that a step began or ended."""
        known = self.steps.get(step.name, {})
        spent = known.get("seconds", 0.0) if known.get("fingerprint") == step.fingerprint else 0.0
        self.steps[step.name] = {
            "fingerprint": step.fingerprint,
            "out": str(step.out),
            "done": done,
            "seconds": round(spent + seconds, 1),
        }
        self.save(self.path, self.steps)

    def save(self, path: Path, content: Any) -> None:
        """Write JSON whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(content, indent=2) + "\n")
        partial.replace(path)


def run(steps: list[Step], state: State) -> None:
    """Run what is not done, then print and store what every step reached."""
    begin, worked = time.perf_counter(), 0.0
    for number, step in enumerate(steps, start=1):
        status = state.of(step)
        if status == "done":
            other = data_prints.changed(step.out) if step.verb == "fit" else []
            but = f", but {data_prints.told(other)}" if other else ""
            print(f"[{number}/{len(steps)}] {step.name}: done already{but}")
            continue
        if status == "changed" and step.out.exists():
            shutil.rmtree(step.out)  # ours: run.json says this step made it
        left = _minutes_left(steps[number - 1 :], worked, time.perf_counter() - begin)
        print(f"[{number}/{len(steps)}] {step.name} -> {step.out}  (about {left} left in all)", flush=True)
        state.record(step, done=False)
        started = time.perf_counter()
        try:
            call(step.verb, step.recipe)
        finally:
            state.record(step, done=False, seconds=time.perf_counter() - started)
        state.record(step, done=True)
        worked += step.minutes
    report = {step.name: _report(step) | {"seconds": state.steps[step.name]["seconds"]} for step in steps}
    state.save(state.folder / "report.json", report)
    _print(report, state)


def call(verb: str, recipe: Path) -> None:
    """Run a writing verb on a recipe, in this process where it may. Raises `UserError` where it fails."""
    from phi3kit.cli import VERBS

    verb, *work = verb.split()  # "score fit" is the verb score, told to fit
    if verb == "fit" and on_several_devices(recipe):
        # Lightning starts every further device with the command line of this process: it must be the step's own
        launched = {**os.environ, "PHI3KIT_LAUNCHED": "1"}
        command = [sys.executable, "-m", "phi3kit.cli", verb, "--recipe", str(recipe)]
        code = subprocess.run(command, env=launched).returncode
    else:
        code = import_module(VERBS[verb][0]).main([*work, "--recipe", str(recipe)], summary=False)
    if code == STOPPED:
        raise UserError(f"{recipe} stopped before its end; the same command goes on from there")
    if code:
        raise UserError(f"{recipe} failed (exit code {code}); mend it and run the same command again")


def on_several_devices(recipe: Path) -> bool:
    """Whether a training recipe may use more than one device: it says so, or leaves it to what a machine has."""
    trainer = recipes.merge(recipes.read_layers(recipe)).get("trainer") or {}
    devices = trainer.get("devices", 1 if trainer.get("accelerator") == "cpu" else "auto")
    return devices not in (1, "1") or trainer.get("num_nodes", 1) != 1


def _minutes_left(steps: list[Step], worked: float, elapsed: float) -> str:
    """The recipes' own estimates, scaled by how they held so far on this machine."""
    pace = (elapsed / 60 + 1) / (worked + 1)  # one minute of faith in the recipes
    minutes = pace * sum(step.minutes for step in steps)
    return "a minute" if minutes < 1.5 else f"{minutes:.0f} minutes"


def _report(step: Step) -> dict[str, Any]:
    path = step.out / "report.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _print(report: dict[str, dict[str, Any]], state: State) -> None:
    """Every step's headline, the one with a conversation last."""
    total = sum(step["seconds"] for step in report.values())
    print(f"\n{len(report)} steps, {total / 60:.1f} minutes of work; all numbers: {state.folder / 'report.json'}\n")
    for name, content in report.items():
        print(f"{name}  ({content['seconds']:.0f} s)")
        for line in content.get("headline", []):
            print(f"    {line}")
    for content in report.values():
        show({"closing": content.get("closing", [])})
