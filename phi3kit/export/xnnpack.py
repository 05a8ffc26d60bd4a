"""CPU, on phones and here: XNNPACK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from phi3kit.export.lean_lowering import lean
from phi3kit.export.lowering import lowered
from phi3kit.families import Backend, Programs
from phi3kit.native_output import silenced

if TYPE_CHECKING:
    from executorch.exir import ExecutorchProgramManager


@final
class XNNPACK(Backend):
    """Lowers to XNNPACK, ExecuTorch's CPU delegate; what it does not take stays with ExecuTorch's own kernels."""

    cannot = {
        "weights alone": "computes wrong numbers where inputs are not rounded as weights are; use Int8DynamicInt4Weight"
    }

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
            done = self._lowered(program, metadata)
            with file.open("wb") as stream:
                done.write_to_file(stream)

    def _lowered(
        self,
        program: Programs,
        metadata: Mapping[str, Any],
    ) -> ExecutorchProgramManager:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        return lowered(program, XnnpackPartitioner(), metadata)

    @property
    def delegates(self) -> frozenset[str]:
        """XnnpackBackend alone."""
        return frozenset({"XnnpackBackend"})
