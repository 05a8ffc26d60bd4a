"""A study: the same recipe with several arms and seeds, each trained or made by its verb, measured, compared.

report.json   every number, means, deviations, differences       results.md   the same as tables
plot.svg      a panel per measure, with error bars                recipes/     each cell's whole recipe
runs/         what the cells wrote                                cells/       each cell's state and measures
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, final

from phi3kit.errors import UserError
from phi3kit.evaluation.arms import Arm, cells
from phi3kit.evaluation.held_out import HeldOutText, bits
from phi3kit.evaluation.leaks import repeated
from phi3kit.evaluation.multiple_choice import MultipleChoice
from phi3kit.evaluation.plot import svg
from phi3kit.evaluation.results import Measured, Results
from phi3kit.evaluation.state import REPORT, State, reported, write
from phi3kit.evaluation.table import markdown
from phi3kit.families import Reader

Command = Callable[[str, Path], None]  # runs a verb on a recipe file


@final
class Study:
    """What is compared, and by which measures.

    Args:
        recipes: recipe files under every arm, layered.
        arms: what is compared; the others are compared with the first.
        seeds: every arm is run with each.
        seed_keys: keys of the recipe that the seed is written to.
        texts: held-out texts, measured in bits per byte.
        questions: multiple choice; compared only where an arm is better than guessing with every seed.
        reported: what to take out of each cell's own report.json: name -> dotted key.
        training: the texts that arms train on: held-out passages that repeat any of them are left out.
        words_in_a_row: how many words in a row count as repeating.
        plot_against: name of the measure along the plot's x axis; null: the arms stand side by side.
    """

    def __init__(
        self,
        recipes: Sequence[str],
        arms: Sequence[Arm],
        seeds: Sequence[int] = (1, 2, 3),
        seed_keys: Sequence[str] = ("seed",),
        texts: Sequence[HeldOutText] = (),
        questions: Sequence[MultipleChoice] = (),
        reported: dict[str, str] | None = None,
        training: Sequence[Reader] = (),
        words_in_a_row: int = 13,
        plot_against: str | None = None,
    ) -> None:
        self.recipes, self.arms, self.seeds, self.seed_keys = list(recipes), list(arms), list(seeds), list(seed_keys)
        self.texts, self.questions, self.reported = list(texts), list(questions), dict(reported or {})
        self.training, self.words_in_a_row, self.plot_against = list(training), words_in_a_row, plot_against
        names = [*(t.name for t in texts), *(q.name for q in questions), *self.reported]
        for kind, given in (("arms", [arm.name for arm in arms]), ("seeds", self.seeds), ("measures", names)):
            if len(set(given)) < len(given) or not given:
                raise UserError(f"the {kind} of a study are {given}; give at least one, each once")
        if plot_against is not None and plot_against not in names:
            raise UserError(f"plot_against is {plot_against!r}, which is not measured; it is one of {', '.join(names)}")

    def run(self, out: Path, command: Command) -> dict[str, Any]:
        """Run every cell that is not done, and compare; returns the report.

        Args:
            out: folder of the study.
            command: runs a verb on a recipe; what it wrote before, it goes on with.
        """
        if out.exists() and not (out / "cells").is_dir():
            raise UserError(f"{out} exists and `study` did not make it; choose another `out`")
        (out / "cells").mkdir(parents=True, exist_ok=True)
        passages, notes = self._passages()
        asked = cells(self.recipes, self.arms, self.seeds, self.seed_keys, out)
        states = []
        for number, cell in enumerate(asked, start=1):
            state = State(out, cell)
            label = f"[{number}/{len(asked)}] arm {cell.arm}, seed {cell.seed}"
            print(f"{label}: {'done already' if state.done else cell.out}", flush=True)
            if not state.done:
                state.begin()
                command(cell.content["verb"], state.recipe)
                state.finish()
            self._measure(state, passages)
            states.append(state)
        return self._compare(out, states, notes)

    def _passages(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        """(name -> passages that no arm trains on, name -> how many those are)."""
        read = {text.name: text.read() for text in self.texts}
        training = (document.text for reader in self.training for document in reader.read())
        together = [(name, passage) for name, passages in read.items() for passage in passages]
        leaks = repeated([passage for _, passage in together], training, self.words_in_a_row)
        kept: dict[str, list[str]] = {name: [] for name in read}
        for number, (name, passage) in enumerate(together):
            if number not in leaks:
                kept[name].append(passage)
        notes = {}
        for name, passages in kept.items():
            if not passages:
                raise UserError(f"every passage of {name!r} repeats training texts; measure on other texts")
            size, left = sum(len(p.encode()) for p in passages), len(read[name]) - len(passages)
            notes[name] = f"{len(passages):,} passages, {size:,} bytes; {left:,} left out that training texts repeat"
        return kept, notes

    def _measure(self, state: State, passages: dict[str, list[str]]) -> None:
        """Measure what is not yet measured."""
        versions = {name: sha256("\0".join(texts).encode()).hexdigest()[:16] for name, texts in passages.items()}
        versions |= {questions.name: questions.version for questions in self.questions}
        versions |= self.reported
        missing = [name for name, version in versions.items() if not state.has(name, version)]
        if {*missing} - {*self.reported}:
            import torch

            from phi3kit.model.load import load_run
            from phi3kit.text import load_tokenizer

            net = load_run(state.cell.out).to("cuda" if torch.cuda.is_available() else "cpu")
            tokenizer = load_tokenizer(state.cell.out / "tokenizer")
        for name in missing:
            if name in passages:
                found = {"value": bits(net, tokenizer, passages[name]).per_byte}
            elif name in self.reported:
                found = {"value": reported(state.cell.out, self.reported[name])}
            else:
                answers = next(q for q in self.questions if q.name == name).ask(net, tokenizer)
                found = {"value": answers.right / answers.asked, "chance": answers.chance, "p": answers.p}
            state.keep(name, versions[name], found)

    def _compare(self, out: Path, states: Sequence[State], notes: dict[str, str]) -> dict[str, Any]:
        units = {text.name: "bits per byte" for text in self.texts}
        units |= {questions.name: "share right" for questions in self.questions}
        units |= self.reported
        measured = []
        for name, unit in units.items():
            found = {arm.name: {s.cell.seed: s.of(name) for s in states if s.cell.arm == arm.name} for arm in self.arms}
            values = {arm: {seed: cell["value"] for seed, cell in of.items()} for arm, of in found.items()}
            p = {arm: {seed: cell["p"] for seed, cell in of.items() if "p" in cell} for arm, of in found.items()}
            chance = states[0].of(name).get("chance")
            measured.append(Measured(name, unit, values, notes.get(name, ""), chance, p))
        results = Results({arm.name: arm.about for arm in self.arms}, measured)
        against = next((m for m in measured if m.name == self.plot_against), None)
        report = results.as_json() | {"headline": headline(results)}
        write(out / "results.md", markdown(results))
        write(out / "plot.svg", svg(results, against))
        write(out / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        return report


def headline(results: Results) -> list[str]:
    """The first measure, arm by arm, and whether its difference to the first arm is more than noise."""
    measure = results.measured[0]
    lines = [f"{measure.name}, {measure.unit} (mean ± standard deviation over seeds)"]
    for arm, about in results.arms.items():
        found = measure.spread(arm)
        told = f"{arm:<12} {found.mean:.4g} ± {found.deviation:.2g}  {about}"
        if arm != results.baseline:
            less = measure.difference(arm, results.baseline)
            told += f"  ({less.mean:+.3g} to {results.baseline}{'' if less.sure else ', within noise'})"
        lines.append(told)
    return lines
