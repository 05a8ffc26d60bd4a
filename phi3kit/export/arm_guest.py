"""Runs inside the emulation: a `.pte`'s logits and TextLLMRunner's tokens, on an ARM processor's Python.

Knows nothing of phi3kit: it is given to that Python as a file, with one JSON file that says what to do and where the
answer goes. Special here: ExecuTorch's libraries are opened one by one, past its Python packages, which import more
than an emulation should wait for.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import torch


def main(file: Path) -> None:
    """Do what `file` says: see `phi3kit.export.arm.Work`."""
    work = json.loads(file.read_text())
    package = Path(torch.__file__).parents[1] / "executorch"
    runtime = _library(package, "extension/pybindings", "_portable_lib")
    for operators in (
        "kernels/quantized/libquantized_ops_aot_lib.so",
        "extension/llm/custom_ops/libcustom_ops_aot_lib.so",
    ):
        torch.ops.load_library(str(package / operators))
    program = runtime._load_for_executorch(work["model"])
    logits = [_logits(program, ids) for ids in work["sequences"]]
    torch.save(logits, work["logits"])
    runner = _library(package, "extension/llm/runner", "_llm_runner")
    text = runner.TextLLMRunner(work["model"], work["tokenizer"])
    answers = [_pieces(runner, text, prompt, work["new_tokens"]) for prompt in work["prompts"]]
    Path(work["answers"]).write_text(json.dumps(answers))


def _library(package: Path, folder: str, name: str) -> Any:
    """A compiled module of ExecuTorch, without the packages around it."""
    (path,) = (package / folder).glob(f"{name}.*.so")
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _logits(program: Any, ids: list[int]) -> torch.Tensor:
    """After each id, one at a time, and once more after all of them read at once, [T + 1, V]."""
    steps = [program.forward([torch.tensor([[id]]), torch.tensor([at])])[0].clone() for at, id in enumerate(ids)]
    at_once = program.forward([torch.tensor([ids]), torch.tensor([0])])[0].clone()
    return torch.cat([*steps, at_once])


def _pieces(runner: Any, text: Any, prompt: str, new_tokens: int) -> str:
    """What TextLLMRunner says, greedily."""
    text.reset()
    pieces: list[str] = []
    config = runner.GenerationConfig()
    config.echo, config.max_new_tokens, config.temperature = False, new_tokens, 0.0
    text.generate(prompt, config, pieces.append, lambda stats: None)
    return "".join(pieces)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
