"""ExecuTorch's lowering as every backend here asks for it; a backend brings its partitioner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phi3kit.families import Programs

if TYPE_CHECKING:
    from executorch.exir import ExecutorchProgramManager


def lowered(programs: Programs, partitioner: Any, metadata: Mapping[str, Any]) -> ExecutorchProgramManager:
    """Programs that a partitioner has taken what it can of, with constant methods, ready to be written."""
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass
    from executorch.exir.passes.quant_fusion_pass import QuantFusionPass
    from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass

    edge = to_edge_transform_and_lower(
        dict(programs) if isinstance(programs, Mapping) else programs,
        partitioner=[partitioner],
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
