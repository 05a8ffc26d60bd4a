"""A proof as a list of numbered points, each passed, failed or not run, with its numbers; as lines and as JSON.

A point makes what checks found readable; the checks themselves are in `verify`, `device_text` and their neighbours.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

Status = Literal["passed", "failed", "not run"]

TITLES = {
    "interface": "Constant methods and signature are what ExecuTorch's runners and the apps read",
    "tokenizer": "ExecuTorch's C++ tokenizer gives the model's ids, and the model's text token by token",
    "operators": "Every operator and delegate is in the runtimes that apps are built with",
    "logits": "The program's logits are the quantized net's, within one activation step",
    "runner": "ExecuTorch's runners say what the quantized net says",
    "template": "The chat template renders in JavaScript, append-only, to the model's ids",
    "files": "Every file is the one that was proven, by its sha256",
    "arm": "An emulated ARM processor computes the same logits and tokens",
}


@final
@dataclass(frozen=True)
class Point:
    """One point of a proof.

    Args:
        name: one of `TITLES`, which also numbers it.
        told: what was looked at, in lines for people.
        numbers: all that was found, for machines.
        faults: what is wrong, a line each.
        not_run: why the point was not looked at, and how it can be; "" where it was.
    """

    name: str
    told: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[str] = ()
    not_run: str = ""

    @property
    def number(self) -> int:
        """Its place in the list, from 1."""
        return list(TITLES).index(self.name) + 1

    @property
    def status(self) -> Status:
        """A fault counts wherever it was found."""
        return "failed" if self.faults else "not run" if self.not_run else "passed"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        head = {"number": self.number, "name": self.name, "title": TITLES[self.name], "status": self.status}
        lists = {"told": list(self.told), "faults": list(self.faults)}
        return {**head, "not_run": self.not_run, **lists, "numbers": dict(self.numbers)}

    def lines(self) -> list[str]:
        """For people."""
        reason = [self.not_run] if self.not_run else []
        told = [*reason, *self.told, *(f"FAULT: {fault}" for fault in self.faults)]
        heads = [f"{self.number} {self.name:<9}  {self.status:<7}  ", *[" " * 22] * (len(told) - 1)]
        return [head + line for head, line in zip(heads, told or [""], strict=False)]


@final
@dataclass(frozen=True)
class Proof:
    """The points of a proof; those that nobody gave were not asked for."""

    points: tuple[Point, ...]

    @classmethod
    def of(cls, points: Iterable[Point]) -> Proof:
        """All eight, in order."""
        given = {point.name: point for point in points}
        return cls(tuple(given.get(name, Point(name, not_run="not asked for")) for name in TITLES))

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        """The numbers of a point."""
        (found,) = [point for point in self.points if point.name == name]
        return found.numbers

    def __or__(self, points: Iterable[Point]) -> Proof:
        """With points given or replaced."""
        new = {point.name: point for point in points}
        return Proof(tuple(new.get(point.name, point) for point in self.points))

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong, each with its point's name."""
        return [f"{point.name}: {fault}" for point in self.points for fault in point.faults]

    @property
    def verdict(self) -> str:
        """In a few words."""
        open_points = [str(point.number) for point in self.points if point.status == "not run"]
        said = "failed" if self.faults else "holds"
        numbers = ", ".join(open_points)
        return said + (f"; not run: point{'s' if len(open_points) > 1 else ''} {numbers}" if open_points else "")

    def lines(self) -> list[str]:
        """For people."""
        return [line for point in self.points for line in point.lines()] + [f"{'proof':<22}{self.verdict}"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "holds": not self.faults,
            "verdict": self.verdict,
            "machine": f"{platform.system()} {platform.machine()}",
            "points": [point.as_dict() for point in self.points],
        }


def interface_point(check: Mapping[str, Any]) -> Point:
    """Of `verify.check_metadata`."""
    constants, delegates = check["constants"], check["delegates"]
    context, step, stops = (constants.get(f"get_{name}") for name in ("max_context_len", "max_seq_len", "eos_ids"))
    step = step if constants.get("enable_dynamic_shape") else 1
    told = [f"{len(constants)} constant methods; delegates: {', '.join(delegates) or 'none'}"]
    told += [f"{context} tokens of context, at most {step} read at once, stops at {stops}"]
    return _point("interface", told, check)


def tokenizer_point(check: Mapping[str, Any], *, own: bool) -> Point:
    """Of `device_text.check_device_text`; `own`: with the model's own tokenizer, not only with the device's file."""
    told = [f"{check['texts']} texts through the template: the same ids, and the same text when decoded one by one"]
    told += [] if own else ["compared with the same file read by Hugging Face's tokenizers; the model's is not here"]
    return _point("tokenizer", told, check)


def operators_point(check: Mapping[str, Any]) -> Point:
    """Of `operators.check_operators`."""
    told = [f"{check['operators']} operators and {', '.join(check['delegates']) or 'no delegate'}, of all methods"]
    told += [
        f"{target}: all of them from ExecuTorch {check['oldest'][target]} on"
        if check["oldest"][target]
        else f"{target}: no version has {', '.join(list(lacks.values())[-1])}"
        for target, lacks in check["missing"].items()
    ]
    told += [f"{name}: what it calls itself is not known" for name in check["delegates"] if name != "XnnpackBackend"]
    return _point("operators", told, check)


def logits_point(check: Mapping[str, Any], step: float) -> Point:
    """Of `verify.check_program`; `step` is the most that logits may differ."""
    told = [
        f"{check['positions']} positions, teacher-forced: largest difference {check['largest_difference']:.2g} "
        f"(one activation step: {step:.2g}; standard deviation: {check['standard_deviation_of_logits']:.2g})",
        f"half of them within {check['usual_difference']:.2g} (a step changes half by up to {check['usual_step']:.2g})",
    ]
    return _point("logits", told, {"activation_step": step, **check})


def runner_point(checks: Mapping[str, Mapping[str, Any]]) -> Point:
    """Of what `verify.check_program` found in runners, by the check's name; "runner" is the first."""
    told = [line for name, check in checks.items() for line in TOLD.get(name, _any_check)(check)]
    faults = [f"{name}: {fault}" for name, check in checks.items() for fault in check["faults"]]
    numbers = {name: _numbers(check) for name, check in checks.items() if name != "runner"}
    return Point("runner", told, {**_numbers(checks["runner"]), **numbers}, faults)


def template_point(check: Mapping[str, Any]) -> Point:
    """Of `javascript_template.check_chat_template`; without JavaScript it was not run, though Python's Jinja was."""
    told = [f"{check['conversations']} conversations in {check['renderings']} renderings, append-only, the model's ids"]
    told += [f"rendered by {renderer}" for renderer in check["renderers"]]
    return Point("template", told, _numbers(check), check["faults"], check["not_run"])


def arm_point(check: Mapping[str, Any]) -> Point:
    """Of `arm.check_arm`."""
    told = [
        f"{check['positions']} positions: logits within {check['largest_difference']:.2g} of this computer's (one "
        f"activation step: {check['activation_step']:.2g}); {check['tokens']} greedy tokens on {check['prompts']} "
        f"prompts in TextLLMRunner: {len(check['differences'])} answers differ"
    ]
    return _point("arm", told, check)


def files_point(hashes: Mapping[str, str]) -> Point:
    """Of files whose sha256s were compared, by name."""
    return Point("files", [f"{len(hashes)} files: {', '.join(hashes)}"], {"sha256": dict(hashes)})


def _point(name: str, told: Sequence[str], check: Mapping[str, Any]) -> Point:
    return Point(name, told, _numbers(check), check["faults"])


def _numbers(check: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in check.items() if key != "faults"}


def _greedy(check: Mapping[str, Any]) -> list[str]:
    """Of `verify._check_greedy`."""
    return [
        f"{check['tokens']} greedy tokens on {check['prompts']} prompts in TextLLMRunner: "
        f"{len(check['differences'])} differ from the reference",
        *(
            f"  prompt {each['prompt']}, token {each['at']}: {each['runner']} instead of {each['reference']}, the "
            f"reference's two best {each['gap']:.2g} apart"
            for each in check["differences"]
        ),
    ]


def _second_turn(check: Mapping[str, Any]) -> list[str]:
    """Of `verify._check_second_turn`."""
    return [
        "second turn: " + ", ".join(f"read {turn['read']} new tokens after {turn['before']}" for turn in check["turns"])
    ]


def _rewind(check: Mapping[str, Any]) -> list[str]:
    """Of `rewind.check_rewind`."""
    back = ", ".join(map(str, check["back"]))
    far = "; further back than it reads at once is not right in a cache that slides" if check["slides"] else ""
    return [f"going back by {back} tokens: logits within {check['largest_difference']:.2g} of reading in one go{far}"]


def _end(check: Mapping[str, Any]) -> list[str]:
    """Of `verify._check_end`."""
    return [
        f"longest prompt: {check['tokens']} tokens after {check['read']} of {check['context']}, logits within "
        f"{check['largest_difference']:.2g}; after a reset the first answer again"
    ]


def _far(check: Mapping[str, Any]) -> list[str]:
    """Of `far.check_far`."""
    return [
        f"the last positions, from {check['start']} on: {check['tokens']} tokens one by one and at once, logits within "
        f"{check['largest_difference']:.2g}"
    ]


def _vision(check: Mapping[str, Any]) -> list[str]:
    """Of `vision_runner.check_vision`."""
    return [
        f"{check['tokens']} greedy tokens on {check['images']} images in MultimodalRunner: {check['differences']} "
        "differ from the reference"
    ]


def _any_check(check: Mapping[str, Any]) -> list[str]:
    """Of a check that brings its own line, under "told"."""
    return [check["told"]] if "told" in check else []


TOLD = {"runner": _greedy, "second_turn": _second_turn, "rewind": _rewind, "end": _end, "far": _far, "vision": _vision}
