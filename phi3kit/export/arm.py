"""A program on an emulated ARM processor: the same logits and tokens as here, or not.

qemu runs Debian's ARM Python with ExecuTorch's ARM build, prepared once by `mobile/arm.py`. It shows that ExecuTorch's
kernels for ARM compute what those of this computer do; it says nothing about Android, speed or memory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError

QEMU = "qemu-aarch64-static"
GUEST = Path(__file__).with_name("arm_guest.py")
NEW_TOKENS = 16  # of each prompt
PATIENCE = 3600  # seconds


def check_root(root: Path) -> None:
    """Raise `UserError` where nothing can be emulated with this folder."""
    lacking = [name for name in ("root", "site", "stubs") if not (root / name).is_dir()]
    if lacking:
        raise UserError(
            f"--arm: {root} has no {' and no '.join(lacking)}; prepare it with mobile/arm.py (mobile/arm.md)"
        )
    if shutil.which(QEMU) is None:
        raise UserError(f"--arm: {QEMU} is not installed; apt-get install qemu-user-static")


def check_arm(root: Path, model: Path, prompts: Sequence[list[int]], vocab_size: int, step: float) -> dict[str, Any]:
    """Logits and greedy tokens of a `.pte`, on an emulated ARM processor and here.

    Args:
        root: folder that `mobile/arm.py` prepared.
        model: the `.pte`.
        prompts: as ids; TextLLMRunner answers each, the logits are those of the first two with their answers.
        vocab_size: number of logits.
        step: the most that logits may differ; where two ids are nearer to each other, either may be said.
    """
    import torch

    from phi3kit.export.runner import Runner, ids_in, tokenizer_of_ids

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runner = Runner(model, vocab_size, folder)
        here = []
        for prompt in prompts:
            runner.reset()
            here.append(runner.generate(prompt, NEW_TOKENS).ids)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_of_ids(vocab_size)))
        sequences = [[*prompt, *said] for prompt, said in zip(prompts[:2], here[:2], strict=True)]
        work = {
            "model": str(model.resolve()),
            "tokenizer": str(folder / "tokenizer.json"),
            "sequences": sequences,
            "prompts": ["".join(f"[t{i}]" for i in prompt) for prompt in prompts],
            "new_tokens": NEW_TOKENS,
            "logits": str(folder / "logits.pt"),
            "answers": str(folder / "answers.json"),
        }
        (folder / "work.json").write_text(json.dumps(work))
        _emulate(root, folder / "work.json")
        there = [ids_in([text]) for text in json.loads((folder / "answers.json").read_text())]
        logits = torch.load(folder / "logits.pt", weights_only=True)
    return _compare(_Here(model), sequences, logits, prompts, here, there, step)


def _emulate(root: Path, work: Path) -> None:
    """Run the guest. Raises `UserError` with its last lines where it fails."""
    site, system = root / "site", root / "root"
    libraries = [root / "stubs", site / "torch/lib", site / "nvidia/cu13/lib", system / "usr/lib/aarch64-linux-gnu"]
    variables = {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PYTHONHOME": str(system / "usr"),
        "PYTHONPATH": str(site),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [QEMU, "-cpu", "max", "-L", str(system)]
    command += [part for name, value in variables.items() for part in ("-E", f"{name}={value}")]
    (python,) = system.glob("usr/bin/python3.?*[0-9]")
    done = subprocess.run([*command, str(python), str(GUEST), str(work)], capture_output=True, timeout=PATIENCE)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise UserError(f"--arm: the emulated Python failed ({done.returncode}): {last[0]}; prepare {root} again")


class _Here:
    """The same program on this computer."""

    def __init__(self, model: Path) -> None:
        from phi3kit.executorch_runtime import LoadedProgram

        self.program = LoadedProgram(model)

    def logits(self, ids: Sequence[int]) -> Any:
        """As `arm_guest` has them, [T + 1, V]."""
        import torch

        steps = [self._run([id], at) for at, id in enumerate(ids)]
        return torch.cat([*steps, self._run(list(ids), 0)])

    def _run(self, ids: list[int], at: int) -> Any:
        import torch

        return self.program.run("forward", torch.tensor([ids]), torch.tensor([at]))[0].clone()


def _compare(
    here: _Here,
    sequences: Sequence[list[int]],
    logits: Sequence[Any],
    prompts: Sequence[list[int]],
    said_here: Sequence[list[int]],
    said_there: Sequence[list[int]],
    step: float,
) -> dict[str, Any]:
    largest = max(
        float((here.logits(ids) - got_TV).abs().nan_to_num(float("inf")).max())
        for ids, got_TV in zip(sequences, logits, strict=True)
    )
    faults = [f"logits differ by {largest:.3g}, more than one activation step, {step:.3g}"] if largest > step else []
    differences = []
    for number, (prompt, ours, theirs) in enumerate(zip(prompts, said_here, said_there, strict=True)):
        if ours == theirs:
            continue
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        logits_V = here.logits([*prompt, *ours[:at]])[-1]
        pair = [ids[at] for ids in (ours, theirs) if at < len(ids)]
        gap = float("inf") if len(pair) < 2 else abs(float(logits_V[pair[0]] - logits_V[pair[1]]))
        differences.append({"prompt": number, "at": at, "gap": gap})
        if gap >= step:
            faults.append(
                f"prompt {number}, token {at}: {theirs[at:][:1]} on ARM, {ours[at:][:1]} here, {gap:.3g} apart"
            )
    return {
        "positions": sum(len(ids) + 1 for ids in sequences),
        "largest_difference": largest,
        "activation_step": step,
        "prompts": len(prompts),
        "tokens": sum(map(len, said_here)),
        "differences": differences,
        "faults": faults,
    }
