"""What a `.pte` says about itself, read through ExecuTorch's runtime; what it calls, see `operators`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.executorch_runtime import LoadedProgram, backends
from phi3kit.export.operators import used


@dataclass(frozen=True)
class Facts:
    """A program's interface.

    Args:
        constants: value of each constant method.
        inputs: (type, largest shape) of each input of ``forward``.
        outputs: the same of each output.
        delegates: backends that any of its methods calls.
    """

    constants: dict[str, Any]
    inputs: list[tuple[str, list[int]]]
    outputs: list[tuple[str, list[int]]]
    delegates: list[str]


def facts(model: Path) -> Facts:
    """Read a `.pte`. Raises RuntimeError or ValueError where ExecuTorch cannot."""
    program = LoadedProgram(model)
    forward = program.metadata("forward")
    constants = {name: program.constant(name) for name in program.names if not program.metadata(name).num_inputs()}
    return Facts(
        constants=constants,
        inputs=_tensors(forward.input_tensor_meta(i) for i in range(forward.num_inputs())),
        outputs=_tensors(forward.output_tensor_meta(i) for i in range(forward.num_outputs())),
        delegates=sorted(used(model)[1]),
    )


def cannot_run(model: Path) -> str:
    """Why this computer's ExecuTorch cannot run a `.pte`; "" where it can."""
    missing = sorted(used(model)[1] - backends())
    return f"ExecuTorch on this computer has no {', '.join(missing)}: try the program on a device" if missing else ""


def _tensors(metas: Iterable[Any]) -> list[tuple[str, list[int]]]:
    import torch

    names = {4: torch.int64, 6: torch.float32}  # ExecuTorch numbers its types as PyTorch does
    return [(str(names.get(meta.dtype(), meta.dtype())), list(meta.sizes())) for meta in metas]
