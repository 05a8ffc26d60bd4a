"""How far ExecuTorch's lowering (1.4.1) is, which takes minutes for large nets and says nothing.

Special here: ExecuTorch tells nobody, so the functions that begin its steps do it while `followed` is entered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, final
from unittest import mock

from torch.export import ExportedProgram

from phi3kit.export.stream import Told

WHOLE = 100  # what is done is told in hundredths, tracing included
STEPS = {"decompose operators": 7, "edge dialect": 25, "partition": 48, "plan memory": 85, "write": 98}
SUBGRAPHS = (73, 85)  # hundredths at the first subgraph, and after the last


@contextlib.contextmanager
def followed(tell: Told) -> Iterator[None]:
    """While something is lowered inside, `tell(hundredths done, 100, what comes next)` is called with each step.

    Args:
        tell: as `Stages.within`.
    """
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
    from executorch.exir.backend.partitioner import Partitioner
    from executorch.exir.program import _program as exir

    steps = _Steps(tell)
    begins = [
        (ExportedProgram, "run_decompositions", "decompose operators"),
        (exir, "_generate_edge_program", "edge dialect"),
        (exir.EdgeProgramManager, "to_executorch", "plan memory"),
        (exir.ExecutorchProgramManager, "write_to_file", "write"),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, step in begins:
            stack.enter_context(mock.patch.object(owner, name, steps.before(getattr(owner, name), step)))
        stack.enter_context(mock.patch.object(Partitioner, "__call__", steps.counting(Partitioner.__call__)))
        packing = staticmethod(steps.packing(XnnpackBackend.preprocess))
        stack.enter_context(mock.patch.object(XnnpackBackend, "preprocess", packing))
        yield


@final
class _Steps:
    """Tells what begins, and never goes back: lowering a subgraph has steps of the same names inside."""

    def __init__(self, tell: Told) -> None:
        self._tell = tell
        self._done = 0
        self._subgraphs, self._packed = 0, 0

    def before(self, function: Callable[..., Any], step: str) -> Callable[..., Any]:
        """The same function, told of."""

        def told(*given: Any, **options: Any) -> Any:
            self._reached(STEPS[step], step)
            return function(*given, **options)

        return told

    def counting(self, partition: Callable[..., Any]) -> Callable[..., Any]:
        """The same partitioner, which says how many subgraphs it makes of each method."""

        def told(*given: Any) -> Any:
            self._reached(STEPS["partition"], "partition")
            found = partition(*given)
            self._subgraphs += len(found.partition_tags or ())
            return found

        return told

    def packing(self, pack: Callable[..., Any]) -> Callable[..., Any]:
        """The same packing of a subgraph, counted."""

        def told(*given: Any, **options: Any) -> Any:
            first, last = SUBGRAPHS
            self._packed += 1
            count = max(self._subgraphs, self._packed)
            self._reached(first + (last - first) * self._packed // count, f"subgraph {self._packed} of {count}")
            return pack(*given, **options)

        return told

    def _reached(self, done: int, step: str) -> None:
        if done >= self._done:
            self._done = done
            self._tell(done, WHOLE, step)
