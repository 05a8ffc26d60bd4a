"""What an export of phi-3-mini's true size takes: time and memory of each stage, and the program's size.

  python benchmarks/export_memory.py OUT                  # 32 layers; minutes, and 8 GB of disk, left in OUT
  python benchmarks/export_memory.py OUT --layers 4 --method plain
  python benchmarks/export_memory.py OUT --layers 4 --method gptq --rows 8   # fitted to 8 rows of 512 random ids

The weights are random. Memory is the most that was resident while a stage ran, sampled five times a second:
`anonymous` is what the process holds itself, the rest are pages of files, which the system takes back when it needs
them. The proof comes after this, in a process of its own, and is not part of it. There is no peer: ExecuTorch's own
exporter has no phi-3-mini.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from torch import Tensor

NET = Path(__file__).resolve().parents[1] / "recipes" / "phi3-mini" / "net.yaml"
STOP_ID = 32000
ROW = 512
WATCHED = ("VmRSS", "RssAnon")


def main() -> None:
    options = arguments()
    section = yaml.safe_load(NET.read_text())["net"]
    section["dims"]["n_layers"] = options.layers
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{options.layers} layers, context {options.context}, {options.method}, load {os.getloadavg()[0]:.1f}\n")
    print("| stage | wall s | processor s | resident GB | anonymous GB |\n|---|---|---|---|---|")
    with stage("imports"):
        from phi3kit.export import XNNPACK, Program, metadata, trace
        from phi3kit.export.stream import Stream
        from phi3kit.model.source import RandomSource
        from phi3kit.quantizers import GPTQ, Int8DynamicInt4Weight
    bits, rows = {"group_size": 128, "head_bits": 4, "embedding_bits": 4}, []
    if options.method == "gptq":
        quantizer, rows = GPTQ(**bits), texts(options.rows, section["dims"]["vocab_size"])
    else:
        quantizer = Int8DynamicInt4Weight(**bits, method=options.method)
    stream = Stream(RandomSource(section, 0), quantizer, options.out / "quantized", rows)
    with stage("quantize"):
        program = Program(stream.run(), options.context)
    with stage("trace"):
        exported, about = trace(program), metadata(program, eos_ids=[STOP_ID], bos_id=None)
    file = options.out / "model.pte"
    with stage("lower and write"):
        XNNPACK().write(exported, about, file, stream.forget)
    print(f"\n{file.stat().st_size:,} bytes; {stream.reused} parts were there already")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--method", choices=("hqq", "plain", "gptq"), default="hqq")
    parser.add_argument("--rows", type=int, default=8, help=f"of {ROW} ids each, for gptq")
    return parser.parse_args()


def texts(count: int, vocab_size: int) -> list[Tensor]:
    """Rows of ids for a quantizer that is fitted to text."""
    import torch  # its time is counted with the other imports'

    choose = torch.Generator().manual_seed(0)
    return [torch.randint(vocab_size, (ROW,), generator=choose) for _ in range(count)]


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Prints a row of the table."""
    peaks, over = dict.fromkeys(WATCHED, 0), threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for key, size in resident().items():
                peaks[key] = max(peaks[key], size)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    over.set()
    watcher.join()
    memory = " | ".join(f"{peaks[key] / 1e6:.2f}" for key in WATCHED)
    print(f"| {name} | {wall:.0f} | {processor:.0f} | {memory} |", flush=True)


def resident() -> dict[str, int]:
    """Kilobytes of this process in memory."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {key[:-1]: int(size) for key, size, *_ in (line for line in lines if len(line) > 2) if key[:-1] in WATCHED}


if __name__ == "__main__":
    main()
