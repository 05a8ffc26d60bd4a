"""A bundle's `.pte` in ExecuTorch's Python runtime.

Special here: a program may read a whole context at once, and what it computes meanwhile stays resident afterwards. 256
ids at a time take no longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.executorch_runtime import LoadedProgram
from phi3kit.model.engine import Engine

AT_ONCE = 256  # ids


@final
class BundleEngine(Engine):
    """Calls ``forward(tokens, input_pos)`` of a program, which keeps keys and values inside.

    Args:
        model: path of the `.pte`.
        at_once: ids that are read together, at most; None: as many as the program takes.

    Raises:
        UserError: ExecuTorch cannot load it.
    """

    def __init__(self, model: Path, at_once: int | None = AT_ONCE) -> None:
        try:
            self._program = LoadedProgram(model)
            self._program.load("forward")
            self._context = int(self.constant("get_max_context_len"))
            most = int(self.constant("get_max_seq_len"))
            self._step = most if at_once is None else min(most, at_once)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"ExecuTorch cannot run {model}: {str(error).splitlines()[0]}; export it again") from error
        self._position = 0

    @property
    def context(self) -> int:
        """What the program says its cache holds."""
        return self._context

    @property
    def position(self) -> int:
        """How many ids are in the cache."""
        return self._position

    def constant(self, name: str) -> Any:
        """Value of a constant method: a number, or a list where it returns several."""
        return self._program.constant(name)

    def ingest(self, ids: Sequence[int]) -> Tensor:
        """Read ids; logits of what follows, [V] fp32."""
        self.check_room(ids)
        logits_V = self._program.read(ids, self._position, self._step)
        self._position += len(ids)
        return logits_V

    def reset(self) -> None:
        """Begin at position 0 again; what is in the cache after it is never looked at."""
        self._position = 0
