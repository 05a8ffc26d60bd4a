"""CPU, on phones and here: XNNPACK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from phi3kit.export.lean_lowering import lean
from phi3kit.families import Backend, Programs
from phi3kit.native_output import silenced

if TYPE_CHECKING:
    from executorch.exir import ExecutorchProgramManager


@final
class XNNPACK(Backend):
    """Lowers to XNNPACK, ExecuTorch's CPU delegate; what it does not take stays with ExecuTorch's own kernels."""

    def lower(
        self,
        program: Programs,
        metadata: Mapping[str, Any],
    ) -> bytes:
        """The `.pte`. One partitioner takes quantized and float operators alike: fewer calls than the pair
        ExecuTorch's own exporter uses, and the same kernels.

        A program can be lowered once (torch 2.13); trace it again for another time.
        """
        with silenced():
            return self._lowered(program, metadata).buffer

    def write(
        self,
        program: Programs,
        metadata: Mapping[str, Any],
        file: Path,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """`lower` into a file, with no more in memory than the packed weights; layers that are alike share the work."""
        with silenced(), lean(release):
            lowered = self._lowered(program, metadata)
            with file.open("wb") as stream:
                lowered.write_to_file(stream)

    def _lowered(
        self,
        program: Programs,
        metadata: Mapping[str, Any],
    ) -> ExecutorchProgramManager:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
        from executorch.exir.passes import MemoryPlanningPass
        from executorch.exir.passes.quant_fusion_pass import QuantFusionPass
        from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass

        edge = to_edge_transform_and_lower(
            dict(program) if isinstance(program, Mapping) else program,
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
            constant_methods=dict(metadata),
        )
        return edge.to_executorch(
            ExecutorchBackendConfig(
                extract_delegate_segments=True,
                passes=[QuantFusionPass()],  # an embedding's lookup and scaling become one operator
                do_quant_fusion_and_const_prop=True,
                memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
                sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass(),
            )
        )

    @property
    def delegates(self) -> frozenset[str]:
        """XnnpackBackend alone."""
        return frozenset({"XnnpackBackend"})
