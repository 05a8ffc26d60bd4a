"""Apple's GPUs and Neural Engine: CoreML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from phi3kit.errors import UserError
from phi3kit.export.lowering import lowered
from phi3kit.families import Backend, Programs
from phi3kit.native_output import silenced


@final
class CoreML(Backend):
    """Lowers to CoreML, ExecuTorch's delegate for Apple's GPUs and Neural Engine (iOS 18, macOS 15): the whole program
    is one delegate, computes in fp16, and keeps its cache in CoreML's state. Quantize with `WeightOnly`.

    What it cannot do: run on this computer, so that its logits and tokens are not proven; read more than one token at a
    time, prompts included; take quantizers that round activations; keep its cache in 8 bits; slide; see images. Apps
    link ExecuTorch's backend_coreml.
    """

    note = (
        "lowered for CoreML, which runs on Apple's devices alone (iOS 18) and in fp16, one token at a time: the proof "
        "has not seen its logits and tokens"
    )
    form = "one token"
    copies = 9  # coremltools holds weights in several forms: measured at 146 and 298 MB, 1.75 and 3.13 GB
    cannot = {  # ExecuTorch 1.4 with coremltools 9
        "rounded inputs": "does not round activations to 8 bits, as this quantizer does; use WeightOnly, or leave "
        "backend out (XNNPACK)",
        "slide": "has no cache that slides; set at_end: fail, or leave backend out (XNNPACK)",
        "int8 cache": "keeps its cache in fp16 alone; set cache: float, or leave backend out (XNNPACK)",
        "vision": "lowers text alone, and this net sees; leave backend out (XNNPACK)",
    }

    def __init__(self) -> None:
        with silenced():  # it warns of every torch newer than 2.7
            try:
                import coremltools  # noqa: F401
            except ImportError as error:
                raise UserError(
                    f"CoreML needs coremltools, which cannot be imported here ({error}); pip install coremltools==9.0, "
                    "or leave backend out (XNNPACK)"
                ) from error

    def lower(self, program: Programs, metadata: Mapping[str, Any]) -> bytes:
        """The `.pte`, of a program that reads one token at a time. Weights become fp16 where they are not quantized.

        Raises:
            UserError: coremltools cannot convert what the net computes.
        """
        with silenced():
            import coremltools
            from executorch.backends.apple.coreml.compiler import CoreMLBackend
            from executorch.backends.apple.coreml.partition.coreml_partitioner import CoreMLPartitioner

            _declare_bitwise_or()
            specs = CoreMLBackend.generate_compile_specs(minimum_deployment_target=coremltools.target.iOS18)
            partitioner = CoreMLPartitioner(compile_specs=specs, lower_full_graph=True)
            try:
                return lowered(program, partitioner, metadata).buffer
            except (NotImplementedError, ValueError) as error:
                why = str(error).strip().partition("\n")[0].partition(", but ")[0]
                raise UserError(f"CoreML cannot lower this net ({why}); leave backend out (XNNPACK)") from error

    @property
    def delegates(self) -> frozenset[str]:
        """CoreMLBackend alone."""
        return frozenset({"CoreMLBackend"})


def _declare_bitwise_or() -> None:
    """``a | b`` of truth values, for which coremltools 9 has the operator, but not under that name."""
    from coremltools.converters.mil.frontend.torch.ops import logical_or
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op

    register_torch_op(logical_or, torch_alias=["bitwise_or"], override=True)
