"""ExecuTorch's lowering (1.4.1) with less memory and less time, for nets of billions of weights.

Special here, because nothing offers hooks for it: six habits of ExecuTorch and torchao are changed while `lean` is
entered.

- It copies programs deeply, and the weights with them: twice all int8 weights for a moment. Nothing in lowering writes
  to a weight, so copies share them.
- It runs eighteen passes over every subgraph that goes to XNNPACK, one subgraph after the other, though a net's layers
  are alike. Subgraphs of equal structure are transformed once; the others get the result with their own weights.
- It traces the whole graph three times to decompose operators: without decomposing any, keeping what a partitioner
  wants kept, and once more for what it then does not want. The second alone changes the graph, where nothing is left.
- It traces the whole graph again for each of six small rewritings of single operators, and for one of operators that
  are not there. One pass does the six.
- Tracing asks torchao for the shape of what is quantized or dequantized, and it computes all of it on tensors without
  numbers to find that it is the input's.
- It keeps every subgraph it made, packed weights included, for as long as the process lives: torch's memory of what was
  traced knows them, and so does what notes why the partitioner left an operator alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec
from torch.fx.passes.infra.pass_base import PassResult

from phi3kit.export.quick_lowering import quick

HELD = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@contextlib.contextmanager
def lean(release: Callable[[], None]) -> Iterator[None]:
    """Lowering inside copies no weights and transforms equal subgraphs once.

    Args:
        release: gives memory of weights back that can be read again; called after each subgraph.
    """
    from executorch.backends.xnnpack._passes import XNNPACKPassManager
    from executorch.exir.backend import utils as partitioning
    from executorch.exir.passes import LegalizePortableDimOrderPass
    from executorch.exir.program import _program as exir
    from torch._subclasses.fake_tensor import FakeTensorMode

    original, known = XNNPACKPassManager.transform, {}

    def transform(self: Any) -> ExportedProgram:
        release()
        program = self.exported_program
        key = structure(program), tuple(each.__name__ for each in self.passes)
        if key not in known:
            done = original(self)
            if not _keeps_weights(program, done):
                return done
            known[key] = (_targets(program), done)
        names, done = known[key]
        return with_weights(done, dict(zip(names, _targets(program), strict=True)), program)

    decompose, last = ExportedProgram.run_decompositions, list[ExportedProgram]()

    def decomposed(self: ExportedProgram, table: Any = None, **options: Any) -> ExportedProgram:
        if table is not None and (not len(table) or (self in last and not _uses(self, table))):
            return self
        last[:] = [decompose(self, table, **options)]
        return last[0]

    rewritings, legalized = exir._get_aten_to_edge_passes, LegalizePortableDimOrderPass.call

    def at_once(config: Any) -> tuple[list[Any], list[Any]]:
        before, after = rewritings(config)
        return _merged(before), after

    def legalize(self: Any, module: fx.GraphModule) -> PassResult:
        return legalized(self, module) if _has(module, self._target_ops) else PassResult(module, False)

    def itself(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        return tensor

    def unsaid(self: Any, node: fx.Node, reason: str) -> None:
        """Notes nothing."""

    with (
        mock.patch.object(ExportedProgram, "run_decompositions", decomposed),
        mock.patch.object(XNNPACKPassManager, "transform", transform),
        shapes_alone(),
        quick(),
        mock.patch.object(
            exir, "ReplaceViewOpsWithViewCopyOpsPass", return_value=lambda module: PassResult(module, False)
        ),
        mock.patch.object(exir, "_get_aten_to_edge_passes", at_once),
        mock.patch.object(LegalizePortableDimOrderPass, "call", legalize),
        mock.patch.object(torch.Tensor, "__deepcopy__", itself),
        mock.patch.object(nn.Parameter, "__deepcopy__", itself),
        mock.patch.object(partitioning.WhyNoPartition, "__call__", unsaid),
    ):
        try:
            yield
        finally:
            FakeTensorMode.cache_clear()
            partitioning.is_same_node.cache_clear()


@contextlib.contextmanager
def shapes_alone() -> Iterator[None]:
    """Tracing inside knows what quantizing and dequantizing give, without computing it on tensors without numbers."""
    from torch._subclasses.fake_tensor import FakeTensor
    from torchao.quantization import quant_primitives as primitives

    quantized, dequantized = primitives._quantize_affine_no_dtype_cast, primitives._dequantize_affine_no_dtype_check

    def quantize(x: Tensor, *how: Any) -> Tensor:
        return torch.empty_like(x) if isinstance(x, FakeTensor) else quantized(x, *how)

    def dequantize(x: Tensor, *how: Any) -> Tensor:
        return torch.empty_like(x, dtype=how[-1]) if isinstance(x, FakeTensor) else dequantized(x, *how)

    with (
        mock.patch.object(primitives, "_quantize_affine_no_dtype_cast", quantize),
        mock.patch.object(primitives, "_dequantize_affine_no_dtype_check", dequantize),
    ):
        yield


def _uses(program: ExportedProgram, table: Any) -> bool:
    """Whether any operator of a program, branches included, is in a table of decompositions."""
    # sym_size asks, and computes nothing
    return _has(program.graph_module, [target for target in table if target != torch.ops.aten.sym_size.int])


def _has(module: fx.GraphModule, operators: Collection[Any]) -> bool:
    """Whether any of some operators is in a graph, branches included."""
    graphs = [each.graph for each in module.modules() if isinstance(each, fx.GraphModule)]
    return any(node.target in operators for graph in graphs for node in graph.nodes if node.op == "call_function")


def _merged(passes: Sequence[Any]) -> list[Any]:
    """The same passes, those that rewrite operators one by one as a single one in the place of the first.

    Each hands what it made to its ``super().call_operator``, which in a class that inherits from all of them is that of
    the next.
    """
    from executorch.exir.pass_base import ExportPass
    from executorch.exir.passes.normalize_transpose_pass import NormalizeTransposePass
    from executorch.exir.passes.remove_mixed_type_operators import RemoveMixedTypeOperators
    from executorch.exir.passes.replace_broken_ops_with_function_ops_pass import ReplaceBrokenOpsWithFunctionalOpsPass
    from executorch.exir.passes.scalar_to_tensor_pass import ScalarToTensorPass
    from executorch.exir.passes.sym_to_tensor_pass import SymToTensorPass

    class UnsafeViews(ExportPass):
        """The one rewriting of torch's pass for views that the others do not have."""

        def call_operator(self, op: Any, args: Any, kwargs: Any, meta: Any) -> Any:
            aten = torch.ops.aten
            op = aten.view_copy.default if op == aten._unsafe_view.default else op
            return super().call_operator(op, args, kwargs, meta)

    kinds = (
        NormalizeTransposePass,
        ReplaceBrokenOpsWithFunctionalOpsPass,
        ScalarToTensorPass,
        SymToTensorPass,
        RemoveMixedTypeOperators,
    )
    wanted = [kind.__name__ for kind in kinds]
    names = [getattr(each, "__name__", type(each).__name__) for each in passes]  # most are wrapped in a function
    places = [number for number, name in enumerate(names) if name in wanted]
    if [names[place] for place in places] != wanted:
        raise RuntimeError(f"ExecuTorch's passes are not those of 1.4.1: {names}")
    merged = type("Rewritings", (UnsafeViews, *kinds), {})()
    kept = [each for number, each in enumerate(passes) if number not in places]
    return [*kept[: places[0]], merged, *kept[places[0] :]]


def structure(program: ExportedProgram) -> str:
    """Everything about a program's graph but names and the numbers of its weights: equal for equal computations."""
    number = {node: f"%{i}" for i, node in enumerate(program.graph.nodes)}
    kinds = {spec.arg.name: spec.kind.name for spec in program.graph_signature.input_specs}
    lines = []
    for node in program.graph.nodes:
        what = kinds.get(node.name, "") if node.op == "placeholder" else str(node.target)
        arguments = torch.fx.map_arg((node.args, node.kwargs), lambda each: _Numbered(number[each]))
        lines.append(f"{number[node]} {node.op} {what} {arguments} {_value(node.meta.get('val'))}")
    return "\n".join(lines)


class _Numbered(str):
    """A node's number, printed bare."""

    __repr__ = str.__str__


def _value(value: Any) -> str:
    """Type and shape of what a node gives."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(map(str, value.shape))} {list(map(str, value.stride()))}"
    return str(list(map(_value, value))) if isinstance(value, list | tuple) else str(value)


def with_weights(program: ExportedProgram, names: Mapping[str, str], other: ExportedProgram) -> ExportedProgram:
    """A program that computes with another one's weights.

    Args:
        program: gives the graph.
        names: of its weights -> those of the other.
        other: gives the weights.
    """
    held = _held(other)
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict={name: held[names[name]] for name in program.state_dict},
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants={name: held[names[name]] for name in program.constants},
        verifiers=[program.verifier],
    )


def _keeps_weights(before: ExportedProgram, after: ExportedProgram) -> bool:
    """Whether the passes left every weight alone: only then others may take its place."""
    old, new = _held(before), _held(after)
    return new.keys() <= set(_targets(before)) and all(_place(old[name]) == _place(new[name]) for name in new)


def _place(tensor: Any) -> Any:
    return (tensor.data_ptr(), tensor.shape, tensor.stride()) if isinstance(tensor, Tensor) else id(tensor)


def _held(program: ExportedProgram) -> dict[str, Any]:
    return {**program.state_dict, **program.constants}


def _targets(program: ExportedProgram) -> list[str]:
    """Names of the weights, in the order of the graph's inputs."""
    return [_target(spec) for spec in program.graph_signature.input_specs if spec.kind in HELD]


def _target(spec: InputSpec) -> str:
    assert spec.target is not None
    return spec.target
