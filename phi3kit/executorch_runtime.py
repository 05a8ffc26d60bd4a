"""ExecuTorch's runtime: what runs programs, without what makes them.

``executorch.runtime`` imports the whole exporter, which takes five seconds before a chat begins; the runtime itself is
three compiled libraries.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, final

from phi3kit.native_output import silenced

if TYPE_CHECKING:
    from torch import Tensor

OPERATORS = (
    "kernels/quantized/libquantized_ops_aot_lib.so",  # embeddings of few bits
    "extension/llm/custom_ops/libcustom_ops_aot_lib.so",  # llama::*: caches and attention
)


@final
class LoadedProgram:
    """A `.pte` in this process.

    Args:
        model: its path.

    Raises:
        RuntimeError, ValueError: ExecuTorch cannot load it.
    """

    def __init__(self, model: Path) -> None:
        library = runtime()
        with silenced():
            checks = library.Verification.InternalConsistency
            self._program = library._load_program(str(model), program_verification=checks)
        self._methods: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """Of all its methods."""
        return [self._program.get_method_name(number) for number in range(self._program.num_methods())]

    def metadata(self, name: str) -> Any:
        """Types and shapes of a method's inputs and outputs; it is not loaded for that."""
        return self._program.method_meta(name)

    def load(self, name: str) -> None:
        """Make a method ready: its backends rewrite the weights for their kernels, which can take seconds."""
        if name not in self._methods:
            with silenced():
                self._methods[name] = self._program.load_method(name)

    def run(self, name: str, *inputs: Any) -> list[Any]:
        """What a method returns. Tensors are the program's own memory, used again by the next run: copy what is kept.

        Raises:
            RuntimeError: it cannot be loaded, or refuses the inputs.
        """
        self.load(name)
        return list(self._methods[name](inputs))

    def constant(self, name: str) -> Any:
        """What a method without inputs returns: a number, or a list where it returns several."""
        values = self.run(name)
        return values[0] if len(values) == 1 else values

    def read(self, ids: Sequence[int], start: int, step: int) -> Tensor:
        """Have a language model read ids at the positions from `start` on; logits of what follows, [V] fp32.

        Args:
            ids: at least one.
            start: after what it has read before.
            step: the most ids that ``forward(tokens, input_pos)`` takes at once.
        """
        import torch

        for at in range(0, len(ids), step):
            piece_1T = torch.tensor([list(ids[at : at + step])])
            outputs = self.run("forward", piece_1T, torch.tensor([start + at]))
        logits_V: Tensor = outputs[0].reshape(-1).float()
        return logits_V.clone()


def backends() -> set[str]:
    """Names of those that this computer's runtime has."""
    return set(runtime()._get_registered_backend_names())


@functools.cache
def runtime() -> ModuleType:
    """The compiled module, which knows the operators of language models."""
    with silenced():
        import executorch
        import torch  # the libraries that ExecuTorch's are linked with
        from executorch.extension.pybindings import _portable_lib

        (package,) = executorch.__path__
        for library in OPERATORS:
            torch.ops.load_library(str(Path(package) / library))
    return _portable_lib
