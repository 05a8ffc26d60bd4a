"""The proof of an export: the program on disk computes what the quantized net computes in PyTorch.

Each check returns its numbers; ``faults`` lists what is wrong, and is empty where all is well. All are stored in
the bundle's ``report.json``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from phi3kit.export.activation_step import activation_step
from phi3kit.export.program import Program
from phi3kit.export.pte import facts
from phi3kit.export.runner import Runner
from phi3kit.model.engine import Engine

NEW_TOKENS = 24  # per prompt of the runner
ALLOWED = 10  # one prompt in so many may differ where the reference itself is undecided
LAST = 8  # tokens of context that the longest prompt leaves
LARGE = 10**9  # parameters from which on a pass of the net in PyTorch takes many seconds


@dataclass(frozen=True)
class Effort:
    """How much is computed twice.

    Args:
        prompts: answered by TextLLMRunner.
        forced: of them are teacher-forced with their answers.
        longest: tokens of the one long sequence that is teacher-forced after them, in long contexts.
        moves: trials of the activation step.
        moved: of the teacher-forced sequences are tried.
    """

    prompts: int
    forced: int
    longest: int
    moves: int
    moved: int

    @classmethod
    def worth(cls, program: Program) -> Effort:
        """Less for nets of which a single pass takes many seconds."""
        large = program.net.parameter_count() > LARGE
        return cls(6, 3, 256, 24, 3) if large else cls(20, 6, 1024, 200, 7)


@final
class Eager:
    """The quantized net in PyTorch. What it says is computed once.

    Args:
        program: the net in its device form.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._said: dict[tuple[int, ...], Tensor] = {}

    def logits(self, ids: Sequence[int]) -> Tensor:
        """After each of the ids, [T, V]."""
        if tuple(ids) not in self._said:
            self._said[tuple(ids)] = self.program.every_logit(list(ids))
        return self._said[tuple(ids)]


def check_metadata(model: Path, expected: Mapping[str, Any], delegates: frozenset[str]) -> dict[str, Any]:
    """The program's interface is what ExecuTorch's runner and the apps expect.

    Args:
        model: the `.pte`.
        expected: constant methods and their values.
        delegates: the only ones it may call.
    """
    found = facts(model)
    step, vocab_size = expected["get_max_seq_len"], expected["get_vocab_size"]
    inputs = [("torch.int64", [1, step]), ("torch.int64", [1])]
    faults = [
        f"{name}() is {found.constants.get(name)}, not {value}"
        for name, value in expected.items()
        if found.constants.get(name) != value
    ]
    if found.inputs != inputs:
        faults.append(f"forward takes {found.inputs}, not {inputs}")
    if found.outputs != [("torch.float32", [1, vocab_size])]:
        faults.append(f"forward returns {found.outputs}, not one [1, {vocab_size}] of fp32")
    faults += [f"delegate {name} is not the backend's" for name in found.delegates if name not in delegates]
    faults += [f"operator {name} is not in ExecuTorch's runtime" for name in found.missing_operators]
    return {"constants": found.constants, "delegates": found.delegates, "faults": faults}


def check_program(
    model: Path, engine: Engine, reference: Program, prompts: Sequence[list[int]], stop_ids: Sequence[int]
) -> dict[str, Any]:
    """Logits, greedy tokens, a second turn and the end of the context, against the quantized net in PyTorch.

    Args:
        model: the `.pte`, for TextLLMRunner.
        engine: the same `.pte`, for logits.
        reference: the quantized net, run eagerly.
        prompts: at least 20, as ids.
        stop_ids: what ends an answer.
    """
    effort, eager = Effort.worth(reference), Eager(reference)
    prompts = prompts[: effort.prompts]
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(model, reference.net.dims.vocab_size, Path(folder))
        answers = [_answer(runner, prompt) for prompt in prompts]
        whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        forced = [*whole[: effort.forced], _long(whole, min(reference.context, effort.longest))]
        said = {tuple(ids): eager.logits(ids) for ids in forced[: effort.moved]}
        step = activation_step(reference, said, moves=effort.moves)
        return {
            "activation_step": step,
            "logits": _check_logits(engine, eager, forced, step),
            "runner": _check_greedy(eager, prompts, answers, stop_ids, step),
            "second_turn": _check_second_turn(runner, eager, prompts[:3], stop_ids, step),
            "end": _check_end(runner, engine, eager, whole, prompts[0], answers[0], step),
        }


def _answer(runner: Runner, prompt: list[int]) -> list[int]:
    runner.reset()
    return runner.generate(prompt, NEW_TOKENS).ids


def _long(sequences: Sequence[list[int]], length: int) -> list[int]:
    """Sequences on end, so many tokens of them."""
    ids = [i for sequence in sequences for i in sequence]
    return (ids * (length // len(ids) + 1))[:length]


def _check_logits(engine: Engine, eager: Eager, sequences: Sequence[list[int]], step: float) -> dict[str, Any]:
    """Teacher-forced, one token at a time; and each sequence read at once, as a prompt is."""
    largest, positions, spread = 0.0, 0, []
    for ids in sequences:
        wanted_TV = eager.logits(ids)
        engine.reset()
        steps_TV = torch.stack([engine.ingest([i]) for i in ids])
        engine.reset()
        at_once_V = engine.ingest(ids)
        largest = max(largest, _difference(steps_TV, wanted_TV), _difference(at_once_V, wanted_TV[-1]))
        positions += len(ids) + 1
        spread.append(float(wanted_TV.std()))
    engine.reset()
    fault = f"logits differ by {largest:.3g}, more than one activation step, {step:.3g}"
    return {
        "positions": positions,
        "largest_difference": largest,
        "standard_deviation_of_logits": sum(spread) / len(spread),
        "faults": [] if largest <= step else [fault],
    }


def _difference(got: Tensor, wanted: Tensor) -> float:
    difference = float((got - wanted).abs().max())
    return float("inf") if difference != difference else difference


def _check_greedy(
    eager: Eager,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    stop_ids: Sequence[int],
    step: float,
) -> dict[str, Any]:
    """TextLLMRunner's tokens are the reference's most likely ones, given what came before them."""
    differences, faults = [], []
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if not _ends_rightly(answer, stop_ids):
            faults.append(f"prompt {number}: {len(answer)} tokens, the last is {answer[-1:]}; it did not stop rightly")
        found = _departures(eager, prompt, answer)
        differences += [{"prompt": number, **each} for each in found]
        faults += [
            f"prompt {number}, token {each['at']}: {each['runner']}, the reference says {each['reference']} "
            f"by {each['gap']:.3g}"
            for each in found
            if each["gap"] >= step
        ]
    differing = len({each["prompt"] for each in differences})
    if differing * ALLOWED > len(prompts):
        faults.append(f"{differing} of {len(prompts)} prompts differ; at most one in {ALLOWED} may")
    tokens = sum(map(len, answers))
    return {"prompts": len(prompts), "tokens": tokens, "differences": differences, "faults": faults}


def _ends_rightly(answer: list[int], stop_ids: Sequence[int]) -> bool:
    """A stop id ends it, or its length; before that only the first token may be one (the runner does not look)."""
    stopped = bool(answer) and answer[-1] in stop_ids
    return (stopped or len(answer) == NEW_TOKENS) and not set(answer[1:-1]) & set(stop_ids)


def _departures(eager: Eager, before: list[int], answer: list[int]) -> list[dict[str, Any]]:
    """Where the answer is not the reference's most likely id: position, both ids, and the reference's gap."""
    logits_TV = eager.logits([*before, *answer])[len(before) - 1 : -1]
    best_T2 = logits_TV.topk(2).values
    return [
        {
            "at": at,
            "runner": id,
            "reference": int(logits_TV[at].argmax()),
            "gap": float(best_T2[at, 0] - best_T2[at, 1]),
        }
        for at, id in enumerate(answer)
        if id != int(logits_TV[at].argmax())
    ]


def _check_second_turn(
    runner: Runner, eager: Eager, prompts: Sequence[list[int]], stop_ids: Sequence[int], step: float
) -> dict[str, Any]:
    """A second turn reads only its own ids, and answers as the reference does after both."""
    faults, read = [], []
    for number, prompt in enumerate(prompts):
        runner.reset()
        first = runner.generate(prompt, NEW_TOKENS).ids
        new = [first[-1], *prompts[(number + 1) % len(prompts)]]  # the last id was generated, not read
        turn = runner.generate(new, NEW_TOKENS)
        read.append({"new": len(new), "read": turn.read, "before": len(prompt) + len(first) - 1})
        if turn.read != len(new):
            faults.append(f"prompt {number}: the second turn read {turn.read} tokens, only {len(new)} were new")
        for each in _departures(eager, [*prompt, *first[:-1], *new], turn.ids):
            if each["gap"] >= step:
                faults.append(f"prompt {number}, second turn, token {each['at']}: {each}")
    return {"turns": read, "faults": faults}


def _check_end(
    runner: Runner,
    engine: Engine,
    eager: Eager,
    sequences: Sequence[list[int]],
    prompt: list[int],
    answer: list[int],
    step: float,
) -> dict[str, Any]:
    """A prompt that leaves 8 tokens of the context is answered as the reference does, and not beyond; where a
    conversation slides, one that is longer than what is remembered. After a reset everything is as at first.
    """
    program, faults = eager.program, []
    slides = program.cache.slides
    long = _long(sequences, program.cache.context + program.step // 2 if slides else program.context - LAST)
    runner.reset()
    turn = runner.generate(long, NEW_TOKENS)
    if not turn.ids or (not slides and len(turn.ids) > LAST):
        faults.append(f"{len(turn.ids)} tokens after a prompt of {len(long)} in a context of {program.context}")
    wanted_TV = eager.program.every_logit([*long, *turn.ids])[len(long) - 1 : -1]  # too long to be remembered
    for at, (id, logits_V) in enumerate(zip(turn.ids, wanted_TV, strict=True)):
        if (gap := float(logits_V.max() - logits_V[id])) >= step:
            faults.append(f"after {len(long)} tokens, token {at}: {id}, worse than the reference's by {gap:.3g}")
    engine.reset()
    difference = _difference(engine.ingest(long), wanted_TV[0])
    engine.reset()
    if difference > step:
        faults.append(f"logits after {len(long)} tokens differ by {difference:.3g}, more than one activation step")
    if _answer(runner, prompt) != answer:
        faults.append("after a reset the first prompt was answered otherwise than at first")
    return {"read": turn.read, "tokens": len(turn.ids), "largest_difference": difference, "faults": faults}
