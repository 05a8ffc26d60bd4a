"""Running a program needs ExecuTorch's runtime and nothing of what exports."""

from __future__ import annotations

import subprocess
import sys

from phi3kit import bundle
from phi3kit.executorch_runtime import LoadedProgram

PROGRAM = """
import sys
from pathlib import Path
import torch
from phi3kit.serve.bundle_engine import BundleEngine
engine = BundleEngine(Path(sys.argv[1]))
print(len(engine.ingest([1, 2, 3])), engine.position)
print(*sorted(name for name in sys.modules if name.startswith(("executorch.exir", "torch._inductor", "transformers"))))
"""


def test_a_chat_imports_no_exporter(tiny_bundle):
    model = bundle.read(tiny_bundle).model
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    vocab_size = LoadedProgram(model).constant("get_vocab_size")
    assert done == [f"{vocab_size} 3", ""]


def test_methods_and_what_they_take(tiny_bundle):
    program = LoadedProgram(bundle.read(tiny_bundle).model)
    assert {"forward", "get_vocab_size", "get_eos_ids"} <= set(program.names)
    assert program.metadata("forward").num_inputs() == 2
    assert program.metadata("get_vocab_size").num_inputs() == 0
