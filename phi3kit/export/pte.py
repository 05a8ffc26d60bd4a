"""What a `.pte` says about itself, read through ExecuTorch's runtime and its file format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit import executorch_ops
from phi3kit.native_output import silenced


@dataclass(frozen=True)
class Facts:
    """A program's interface.

    Args:
        constants: value of each constant method.
        inputs: (type, largest shape) of each input of ``forward``.
        outputs: the same of each output.
        delegates: backends it calls.
        missing_operators: operators it calls that this runtime, whose set is Android's, lacks.
    """

    constants: dict[str, Any]
    inputs: list[tuple[str, list[int]]]
    outputs: list[tuple[str, list[int]]]
    delegates: list[str]
    missing_operators: list[str]


def facts(model: Path) -> Facts:
    """Read a `.pte`. Raises RuntimeError or ValueError where ExecuTorch cannot."""
    executorch_ops.register()
    with silenced():
        from executorch.exir._serialize._program import deserialize_pte_binary
        from executorch.runtime import Runtime

        runtime = Runtime.get()
        program = runtime.load_program(model)
        forward = program.metadata("forward")
        constants = {}
        for name in program.method_names:
            if program.metadata(name).num_inputs():
                continue
            values = list(program.load_method(name).execute([]))
            constants[name] = values[0] if len(values) == 1 else values
        plans = deserialize_pte_binary(model.read_bytes()).program.execution_plan
        known = set(runtime.operator_registry.operator_names)
    (plan,) = [plan for plan in plans if plan.name == "forward"]
    operators = {f"{op.name}.{op.overload}" if op.overload else op.name for op in plan.operators}
    return Facts(
        constants=constants,
        inputs=_tensors(forward.input_tensor_meta(i) for i in range(forward.num_inputs())),
        outputs=_tensors(forward.output_tensor_meta(i) for i in range(forward.num_outputs())),
        delegates=sorted({delegate.id for delegate in plan.delegates}),
        missing_operators=sorted(operators - known),
    )


def _tensors(metas: Iterable[Any]) -> list[tuple[str, list[int]]]:
    import torch

    names = {4: torch.int64, 6: torch.float32}  # ExecuTorch numbers its types as PyTorch does
    return [(str(names.get(meta.dtype(), meta.dtype())), list(meta.sizes())) for meta in metas]
