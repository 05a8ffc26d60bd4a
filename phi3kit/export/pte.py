"""What a `.pte` says about itself, read through ExecuTorch's runtime; what it calls, see `operators`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit import executorch_ops
from phi3kit.export.operators import used
from phi3kit.native_output import silenced


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
    executorch_ops.register()
    with silenced():
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(model)
        forward = program.metadata("forward")
        constants = {}
        for name in program.method_names:
            if program.metadata(name).num_inputs():
                continue
            values = list(program.load_method(name).execute([]))
            constants[name] = values[0] if len(values) == 1 else values
    return Facts(
        constants=constants,
        inputs=_tensors(forward.input_tensor_meta(i) for i in range(forward.num_inputs())),
        outputs=_tensors(forward.output_tensor_meta(i) for i in range(forward.num_outputs())),
        delegates=sorted(used(model)[1]),
    )


def cannot_run(model: Path) -> str:
    """Why this computer's ExecuTorch cannot run a `.pte`; "" where it can."""
    with silenced():
        from executorch.runtime import Runtime

        here = set(Runtime.get().backend_registry.registered_backend_names)
    missing = sorted(used(model)[1] - here)
    return f"ExecuTorch on this computer has no {', '.join(missing)}: try the program on a device" if missing else ""


def _tensors(metas: Iterable[Any]) -> list[tuple[str, list[int]]]:
    import torch

    names = {4: torch.int64, 6: torch.float32}  # ExecuTorch numbers its types as PyTorch does
    return [(str(names.get(meta.dtype(), meta.dtype())), list(meta.sizes())) for meta in metas]
