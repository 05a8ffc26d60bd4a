"""The proof of an export: the program on disk computes what the quantized net computes in PyTorch.

Each check returns its numbers; ``faults`` lists what is wrong, and is empty where all is well. All are stored in
the bundle's ``report.json``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phi3kit.export.activation_step import activation_step
from phi3kit.export.program import Program
from phi3kit.export.pte import facts
from phi3kit.export.runner import Runner
from phi3kit.model.engine import Engine

NEW_TOKENS = 24  # per prompt of the runner
LONGEST = 1024  # tokens of the one long sequence, in long contexts
ALLOWED = 10  # one prompt in so many may differ where the reference itself is undecided


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
    """Logits, greedy tokens and a second turn of the program, against the quantized net in PyTorch.

    Args:
        model: the `.pte`, for TextLLMRunner.
        engine: the same `.pte`, for logits.
        reference: the quantized net, run eagerly.
        prompts: at least 20, as ids.
        stop_ids: what ends an answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(model, reference.net.dims.vocab_size, Path(folder))
        answers = [_answer(runner, prompt) for prompt in prompts]
        whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        sequences = [*whole[:6], _long(whole, reference.context)]
        step = activation_step(reference, sequences)
        checks = {
            "activation_step": step,
            "logits": _check_logits(engine, reference, sequences, step),
            "runner": _check_greedy(reference, prompts, answers, stop_ids, step),
            "second_turn": _check_second_turn(runner, reference, prompts[:3], stop_ids, step),
        }
    return checks


def _answer(runner: Runner, prompt: list[int]) -> list[int]:
    runner.reset()
    return runner.generate(prompt, NEW_TOKENS).ids


def _long(sequences: Sequence[list[int]], context: int) -> list[int]:
    """Sequences on end until the context is full."""
    length = min(context, LONGEST)
    ids = [i for sequence in sequences for i in sequence]
    return (ids * (length // len(ids) + 1))[:length]


def _check_logits(engine: Engine, reference: Program, sequences: Sequence[list[int]], step: float) -> dict[str, Any]:
    """Teacher-forced, one token at a time; and each sequence read at once, as a prompt is."""
    largest, positions, spread = 0.0, 0, []
    for ids in sequences:
        wanted_TV = reference.every_logit(ids)
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
    reference: Program,
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
        found = _departures(reference, prompt, answer)
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


def _departures(reference: Program, before: list[int], answer: list[int]) -> list[dict[str, Any]]:
    """Where the answer is not the reference's most likely id: position, both ids, and the reference's gap."""
    logits_TV = reference.every_logit([*before, *answer])[len(before) - 1 : -1]
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
    runner: Runner, reference: Program, prompts: Sequence[list[int]], stop_ids: Sequence[int], step: float
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
        for each in _departures(reference, [*prompt, *first[:-1], *new], turn.ids):
            if each["gap"] >= step:
                faults.append(f"prompt {number}, second turn, token {each['at']}: {each}")
    return {"turns": read, "faults": faults}
