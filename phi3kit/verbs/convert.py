"""``phi3kit convert FOLDER OUT``: a public checkpoint folder to a run folder, or a run back to a public one.

Which way is seen in FOLDER: a checkpoint folder of Hugging Face has a config.json, a run has a config.yaml. The numbers
are copied tensor by tensor, whatever the size of the model. There and back is bit for bit the same.

  phi3kit convert Phi-3-mini-4k-instruct runs/phi-3-mini     # then: phi3kit chat runs/phi-3-mini
  phi3kit convert runs/my-sft my-phi --dtype bfloat16        # then: AutoModelForCausalLM.from_pretrained("my-phi")
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from phi3kit.verbs.summary import show

DTYPES = ("float32", "bfloat16", "float16")
PAUSE = 10.0  # seconds between lines where there is no terminal


def main(arguments: list[str]) -> int:
    """Run the verb."""
    options = _parser().parse_args(arguments)
    import torch

    from phi3kit import plugins
    from phi3kit.checkpoints import convert

    plugins.warn_of_faults()
    dtype = getattr(torch, options.dtype) if options.dtype else None
    try:
        summary = convert(options.folder, options.out, dtype, show=progress)
    except KeyboardInterrupt:
        print(f"\nphi3kit: stopped; nothing is left at {options.out}", file=sys.stderr)
        return 130
    show({"closing": [*summary, f"written: {options.out}"]})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="phi3kit convert",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="checkpoint folder (config.json) or run folder (config.yaml)")
    parser.add_argument("out", type=Path, help="folder to write; must not exist")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights a run is written with; default: as stored")
    return parser


def progress(written: Iterator[int], size: int) -> Iterable[int]:
    """Bytes written, with an estimate: a bar on a terminal, a line now and then elsewhere."""
    return _bar(written, size) if sys.stderr.isatty() else _lines(written, size)


def _bar(written: Iterator[int], size: int) -> Iterator[int]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("convert", total=size)
        for n in written:
            bar.advance(task, n)
            yield n


def _lines(written: Iterator[int], size: int) -> Iterator[int]:
    began = told = time.monotonic()
    done = 0
    for n in written:
        done += n
        now = time.monotonic()
        if now - told > PAUSE:
            told = now
            left = (now - began) / done * (size - done)
            print(f"{done / 1e9:.1f} of {size / 1e9:.1f} GB, about {left:.0f} s left", file=sys.stderr, flush=True)
        yield n
