"""Makes ExecuTorch's operators known, to PyTorch for export and eager use and to its runtime for programs.

The pip runtime finds ``llama::*`` (cache and attention) and quantized embeddings only after these imports; without
them loading a program fails with "Missing operator".
"""

from __future__ import annotations

import functools

from phi3kit.native_output import silenced


@functools.cache
def register() -> None:
    """Import what registers them."""
    with silenced():
        import executorch.kernels.quantized  # noqa: F401
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
