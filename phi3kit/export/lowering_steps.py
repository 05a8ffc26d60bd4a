"""How far ExecuTorch's lowering (1.4.1) is, which takes minutes for large nets and says nothing.

Special here: ExecuTorch tells nobody, so the functions that begin its steps do it while `followed` is entered.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, final
from unittest import mock

from torch.export import ExportedProgram

from phi3kit.export.stream import Told

WHOLE = 100  # what is done is told in hundredths of the time, tracing included; as measured with 32 layers
STEPS = {"decompose operators": 10, "edge dialect": 33, "partition": 49, "plan memory": 80, "write": 99}
EACH = {"cut out": (58, 67), "pack": (67, 80)}  # what is done to each subgraph: at the first, and after the last


@contextlib.contextmanager
def followed(tell: Told) -> Iterator[None]:
    """While something is lowered inside, `tell(hundredths done, 100, what comes next)` is called with each step.

    Args:
        tell: as `Stages.within`.
    """
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
    from executorch.exir.backend import backend_api
    from executorch.exir.backend.partitioner import Partitioner
    from executorch.exir.program import _program as exir

    steps = _Steps(tell)
    replaced = [
        (owner, name, steps.before(getattr(owner, name), step))
        for owner, name, step in (
            (ExportedProgram, "run_decompositions", "decompose operators"),
            (exir, "_generate_edge_program", "edge dialect"),
            (exir.EdgeProgramManager, "to_executorch", "plan memory"),
            (exir.ExecutorchProgramManager, "write_to_file", "write"),
        )
    ]
    cut = "create_exported_program_from_submodule"
    replaced += [
        (Partitioner, "__call__", steps.counting(Partitioner.__call__)),
        (backend_api, cut, steps.each(getattr(backend_api, cut), "cut out")),
        (XnnpackBackend, "preprocess", staticmethod(steps.each(XnnpackBackend.preprocess, "pack"))),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, function in replaced:
            stack.enter_context(mock.patch.object(owner, name, function))
        yield


@final
class _Steps:
    """Tells what begins, and never goes back: lowering a subgraph has steps of the same names inside."""

    def __init__(self, tell: Told) -> None:
        self._tell = tell
        self._done = 0
        self._subgraphs = 0

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

    def each(self, function: Callable[..., Any], what: str) -> Callable[..., Any]:
        """The same function, which does something to one subgraph, counted."""
        done = itertools.count(1)

        def told(*given: Any, **options: Any) -> Any:
            (first, last), number = EACH[what], next(done)
            count = max(self._subgraphs, number)
            self._reached(first + (last - first) * number // count, f"{what} subgraph {number} of {count}")
            return function(*given, **options)

        return told

    def _reached(self, done: int, step: str) -> None:
        if done >= self._done:
            self._done = done
            self._tell(done, WHOLE, step)
