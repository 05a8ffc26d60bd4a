"""The proof of an export: the program on disk computes what the quantized net computes in PyTorch.

Each check returns its numbers; ``faults`` lists what is wrong, and is empty where all is well. All are stored in
the bundle's ``report.json``.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from phi3kit.executorch_runtime import LoadedProgram
from phi3kit.export.activation_step import Step, Trials, of_ids_said
from phi3kit.export.far import Far, check_far, read_far
from phi3kit.export.program import Program
from phi3kit.export.pte import facts
from phi3kit.export.readings import Reading, read
from phi3kit.export.released import released
from phi3kit.export.rewind import Again, check_rewind, difference, read_again
from phi3kit.export.runner import Runner, Turn
from phi3kit.model.engine import Engine

NEW_TOKENS = 24  # per prompt of the runner
TURNS = 3  # conversations with a second turn
ALLOWED = 10  # one prompt in so many may differ where the reference itself is undecided
TIE = 0.5  # activation steps between the two best ids; nearer ones say nothing
USUALLY = 3.0  # times what a step changes usually: half of all logits are nearer, and nine tenths of other tokens' gaps
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
        end: tokens of the longest prompt, at most; None: up to the end of the context. Where that is further on, ids at
            its last positions are read by themselves (`far`).
    """

    prompts: int
    forced: int
    longest: int
    moves: int
    moved: int
    end: int | None

    @classmethod
    def worth(cls, program: Program) -> Effort:
        """Less for nets of which a single pass takes many seconds, and attention over thousands of tokens an hour."""
        large = program.net.parameter_count() > LARGE
        return cls(6, 3, 256, 24, 4, 512) if large else cls(20, 6, 1024, 200, 7, None)


@final
class Eager:
    """What the quantized net says in PyTorch, all of it read at once.

    Args:
        program: the net in its device form.
        forced: sequences of ids, the first of which also measure one activation step.
        others: sequences.
        end: one more, after whose last ids alone logits are wanted.
        count: so many.
        far: what is read at the end of the context, if anything.
        effort: how much is moved for the activation step.
    """

    def __init__(
        self,
        program: Program,
        forced: Sequence[list[int]],
        others: Sequence[list[int]],
        end: list[int],
        count: int,
        far: Far | None,
        effort: Effort,
    ) -> None:
        wanted = list(dict.fromkeys(map(tuple, [*forced, *others])))
        first = [] if far is None else far.readings()
        readings = [*first, *map(Reading, wanted), Reading(end, last=count)]
        trials = Trials(program, range(len(first), len(first) + min(len(forced), effort.moved)), effort.moves)
        program.clear()
        said = read(program, readings, trials.changes)
        logits = list(islice(said, len(readings)))
        self.step: Step = trials.step(logits, said)
        self.far, self.end_TV = logits[: len(first)], logits[-1]
        self._said = dict(zip(wanted, logits[len(first) : -1], strict=True))

    def logits(self, ids: Sequence[int]) -> Tensor:
        """After each of the ids of a sequence, [T, V]."""
        return self._said[tuple(ids)]


def check_metadata(model: Path, expected: Mapping[str, Any], delegates: frozenset[str]) -> dict[str, Any]:
    """The program's interface is what ExecuTorch's runner and the apps expect.

    Args:
        model: the `.pte`.
        expected: constant methods and their values.
        delegates: the only ones it may call.
    """
    found = facts(model)
    step = expected["get_max_seq_len"] if expected["enable_dynamic_shape"] else 1
    vocab_size = expected["get_vocab_size"]
    inputs = [("torch.int64", [1, step]), ("torch.int64", [1])]
    faults = [
        f"{name}() is {found.constants.get(name)}, not {value}"
        for name, value in expected.items()
        if found.constants.get(name) != _as_read(value)
    ]
    if found.inputs != inputs:
        faults.append(f"forward takes {found.inputs}, not {inputs}")
    if found.outputs != [("torch.float32", [1, vocab_size])]:
        faults.append(f"forward returns {found.outputs}, not one [1, {vocab_size}] of fp32")
    faults += [f"delegate {name} is not the backend's" for name in found.delegates if name not in delegates]
    return {"constants": found.constants, "delegates": found.delegates, "faults": faults}


def _as_read(value: Any) -> Any:
    """A constant as a program returns it: a list of one is its element."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def check_program(
    model: Path,
    open_engine: Callable[[], Engine],
    reference: Program,
    prompts: Sequence[list[int]],
    stop_ids: Sequence[int],
) -> dict[str, Any]:
    """Logits, greedy tokens, a second turn, going back, the end of the context, against the quantized net in PyTorch.

    What is compared with is never in memory together: first TextLLMRunner answers, then the program gives its logits,
    then the net computes.

    Args:
        model: the `.pte`, for TextLLMRunner and for going back.
        open_engine: opens the same `.pte`, for logits.
        reference: the quantized net, run eagerly.
        prompts: at least 20, as ids.
        stop_ids: what ends an answer.
    """
    effort = Effort.worth(reference)
    heard = released(lambda: _hear(model, reference, prompts[: effort.prompts], effort.end))
    forced = [*heard.whole[: effort.forced], _long(heard.whole, min(reference.context, effort.longest))]
    said = released(lambda: _read(open_engine(), forced, heard.long))
    again = _conversations(heard, reference)
    far = Far.of(forced[0], reference) if heard.ends_early(reference) else None
    anew, at_far = released(lambda: _read_anew(LoadedProgram(model), reference.step, again, far))
    others = [*heard.whole, *heard.whole_turns, *(each.ids for each in again)]
    end = [*heard.long, *heard.end.ids]
    eager = Eager(reference, forced, others, end, len(heard.end.ids) + 1, far, effort)
    step = eager.step.largest
    return {
        "activation_step": step,
        "logits": _check_logits(said, eager, forced),
        "runner": _check_greedy(eager, heard, stop_ids),
        "second_turn": _check_second_turn(eager, heard, step),
        "rewind": check_rewind(anew, eager.logits, again, step) | {"slides": reference.cache.slides},
        "end": _check_end(eager, heard, said, reference, step),
        **({} if far is None else {"far": check_far(at_far, eager.far[-1], far, step)}),
    }


@dataclass(frozen=True)
class Heard:
    """What TextLLMRunner said.

    Args:
        prompts: ids it was given, each after a reset.
        answers: to them.
        turns: of the first three conversations, the ids given next and what it said then.
        long: a prompt that leaves 8 tokens of the context, or as long as the effort allows; where a conversation
            slides, one that is longer than what is remembered.
        end: the answer to it.
        again: the answer to the first prompt, after all this and a reset.
    """

    prompts: Sequence[list[int]]
    answers: list[list[int]]
    turns: list[tuple[list[int], Turn]]
    long: list[int]
    end: Turn
    again: list[int]

    @property
    def whole(self) -> list[list[int]]:
        """Prompts with their answers."""
        return [[*prompt, *answer] for prompt, answer in zip(self.prompts, self.answers, strict=True)]

    @property
    def whole_turns(self) -> list[list[int]]:
        """Conversations up to the answer of the second turn."""
        return [[*self.before(number), *new, *turn.ids] for number, (new, turn) in enumerate(self.turns)]

    def before(self, number: int) -> list[int]:
        """What a conversation has read before its second turn."""
        return [*self.prompts[number], *self.answers[number][:-1]]

    def ends_early(self, program: Program) -> bool:
        """Whether nothing was said near the end of the context."""
        return not program.cache.slides and len(self.long) < program.context - LAST


def _hear(model: Path, program: Program, prompts: Sequence[list[int]], longest: int | None) -> Heard:
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(model, program.net.dims.vocab_size, Path(folder))

        def answer(ids: list[int]) -> Turn:
            runner.reset()
            return runner.generate(ids, NEW_TOKENS)

        answers, turns = [], []
        for number, prompt in enumerate(prompts):
            answers.append(answer(prompt).ids)
            if number < TURNS:  # the last id was generated, not read
                new = [answers[-1][-1], *prompts[(number + 1) % len(prompts)]]
                turns.append((new, runner.generate(new, NEW_TOKENS)))
        memory = program.cache.context + program.step // 2
        whole = [[*prompt, *said] for prompt, said in zip(prompts, answers, strict=True)]
        length = memory if program.cache.slides else program.context - LAST
        long = _long(whole, min(length, longest or length))
        return Heard(prompts, answers, turns, long, answer(long), answer(prompts[0]).ids)


def _long(sequences: Sequence[list[int]], length: int) -> list[int]:
    """Sequences on end, so many tokens of them."""
    ids = [i for sequence in sequences for i in sequence]
    return (ids * (length // len(ids) + 1))[:length]


class Read(NamedTuple):
    """The program's logits: of each sequence token by token [T, V] and read at once [V]; after the long prompt [V]."""

    steps: list[Tensor]
    at_once: list[Tensor]
    end_V: Tensor


def _read(engine: Engine, sequences: Sequence[list[int]], long: list[int]) -> Read:
    steps, at_once = [], []
    for ids in sequences:
        engine.reset()
        steps.append(torch.stack([engine.ingest([i]) for i in ids]))
        engine.reset()
        at_once.append(engine.ingest(ids))
    engine.reset()
    return Read(steps, at_once, engine.ingest(long))


def _check_logits(read: Read, eager: Eager, sequences: Sequence[list[int]]) -> dict[str, Any]:
    """Teacher-forced, one token at a time; and each sequence read at once, as a prompt is."""
    wanted, step = [eager.logits(ids) for ids in sequences], eager.step
    apart = [
        difference(got_V, wanted_V)
        for steps_TV, at_once_V, wanted_TV in zip(read.steps, read.at_once, wanted, strict=True)
        for got_V, wanted_V in zip((*steps_TV, at_once_V), (*wanted_TV, wanted_TV[-1]), strict=True)
    ]
    largest, usual, faults = max(apart), statistics.median(apart), []
    if largest > step.largest:
        faults.append(f"logits differ by {largest:.3g}, more than one activation step, {step.largest:.3g}")
    if usual > USUALLY * step.usual:
        faults.append(f"logits of most positions differ by {usual:.3g} or more; a step changes {step.usual:.3g}")
    return {
        "positions": len(apart),
        "largest_difference": largest,
        "usual_difference": usual,
        "usual_step": step.usual,
        "standard_deviation_of_logits": statistics.fmean(float(of_ids_said(each).std()) for each in wanted),
        "faults": faults,
    }


def _check_greedy(eager: Eager, heard: Heard, stop_ids: Sequence[int]) -> dict[str, Any]:
    """TextLLMRunner's tokens are the reference's most likely ones, given what came before them."""
    differences, faults, step = [], [], eager.step
    for number, (prompt, answer) in enumerate(zip(heard.prompts, heard.answers, strict=True)):
        if not _ends_rightly(answer, stop_ids):
            faults.append(f"prompt {number}: {len(answer)} tokens, the last is {answer[-1:]}; it did not stop rightly")
        found = _departures(eager, prompt, answer)
        differences += [{"prompt": number, **each} for each in found]
        faults += [
            f"prompt {number}, token {each['at']}: {each['runner']}, the reference says {each['reference']} "
            f"by {each['gap']:.3g}"
            for each in found
            if each["gap"] >= step.largest
        ]
    tie, usually = TIE * step.largest, USUALLY * step.usual
    differing, count = len({each["prompt"] for each in differences if each["gap"] >= tie}), len(heard.prompts)
    if differing > max(1, count // ALLOWED):
        faults.append(f"{differing} of {count} prompts differ; at most one in {ALLOWED} may")
    tokens = sum(map(len, heard.answers))
    unusual = sum(each["gap"] >= usually for each in differences)
    if unusual > tokens // ALLOWED:
        faults.append(f"{unusual} of {tokens} tokens are worse by {usually:.3g} or more; at most one in {ALLOWED} may")
    return {"prompts": count, "tokens": tokens, "differences": differences, "faults": faults}


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


def _check_second_turn(eager: Eager, heard: Heard, step: float) -> dict[str, Any]:
    """A second turn reads only its own ids, and answers as the reference does after both."""
    faults, read = [], []
    for number, (new, turn) in enumerate(heard.turns):
        before = heard.before(number)
        read.append({"new": len(new), "read": turn.read, "before": len(before)})
        if turn.read != len(new):
            faults.append(f"prompt {number}: the second turn read {turn.read} tokens, only {len(new)} were new")
        for each in _departures(eager, [*before, *new], turn.ids):
            if each["gap"] >= step:
                faults.append(f"prompt {number}, second turn, token {each['at']}: {each}")
    return {"turns": read, "faults": faults}


def _read_anew(
    loaded: LoadedProgram, step: int, again: Sequence[Again], far: Far | None
) -> tuple[list[Tensor], list[Tensor]]:
    """The logits of `read_far`, in a cache where nothing is yet, and of `read_again`."""
    forward = partial(loaded.read, step=step)
    at_the_end = [] if far is None else read_far(forward, far)
    return read_again(forward, again), at_the_end


def _conversations(heard: Heard, program: Program) -> list[Again]:
    """The first ones, in which an app goes back. A cache that slides goes back by no more than it reads at once."""
    return [
        Again.of(heard.prompts[number], heard.answers[number], new[1:], program.context, program.step)
        for number, (new, _) in enumerate(heard.turns)
    ]


def _check_end(eager: Eager, heard: Heard, read: Read, program: Program, step: float) -> dict[str, Any]:
    """The longest prompt, near the end of the context, is answered as the reference does, and not beyond; after a reset
    everything is as at first.
    """
    length, answer, faults = len(heard.long), heard.end.ids, []
    room = NEW_TOKENS if program.cache.slides else program.context - length
    if not 0 < len(answer) <= room:
        faults.append(f"{len(answer)} tokens after a prompt of {length} in a context of {program.context}")
    wanted_TV = eager.end_TV[:-1]
    for at, (id, logits_V) in enumerate(zip(answer, wanted_TV, strict=True)):
        if (gap := float(logits_V.max() - logits_V[id])) >= step:
            faults.append(f"after {length} tokens, token {at}: {id}, worse than the reference's by {gap:.3g}")
    apart = difference(read.end_V, wanted_TV[0]) if answer else float("nan")
    if apart > step:
        faults.append(f"logits after {length} tokens differ by {apart:.3g}, more than one activation step")
    if heard.again != heard.answers[0]:
        faults.append("after a reset the first prompt was answered otherwise than at first")
    return {
        "read": heard.end.read,
        "tokens": len(answer),
        "context": program.context,
        "largest_difference": apart,
        "faults": faults,
    }
