"""How much memory and disk an export needs, known before it starts, and whether this machine has it.

The bounds are of what a process holds itself; pages of files, which the system takes back when it needs them, count for
nothing. Measured against in tests (small nets) and in `benchmarks/export_memory.py` (phi-3-mini's full size).
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from phi3kit.errors import UserError
from phi3kit.export.device import for_device
from phi3kit.export.program import context_of
from phi3kit.export.sizes import kept_bytes, program_bytes
from phi3kit.families import Quantizer
from phi3kit.model.load import build_net

BASE = 2.3e9  # torch, torchao and ExecuTorch, with the graph of a net of 32 layers
ROUNDING = 1.5  # fp32 copies of a part's largest matrix: its numbers as they were stored, its integers
FITTING = 6  # of what is fitted to text together
TOGETHER = 4 * 2**14 * 4096  # bytes of it: so many rows of so many numbers
GIGA = 1e9


@dataclass(frozen=True)
class Room:
    """What an export needs at most, in bytes.

    Args:
        memory: of the process that quantizes and lowers.
        disk: beside `out`, until it is finished.
    """

    memory: int
    disk: int

    def check(self, out: Path, there: int = 0) -> None:
        """Refuse what cannot fit.

        Args:
            out: where the bundle is going to be.
            there: bytes of what was kept already.

        Raises:
            UserError: too little memory, or too little disk.
        """
        free = available_memory()
        if free is not None and self.memory > free:
            raise UserError(
                f"this export needs about {self.memory / GIGA:.1f} GB of memory, {free / GIGA:.1f} GB are available; "
                "close other programs, or use a machine with more"
            )
        left = shutil.disk_usage(_nearest(out)).free + there
        if self.disk > left:
            raise UserError(
                f"this export needs {self.disk / GIGA:.1f} GB of disk beside {out}, {left / GIGA:.1f} GB are free; "
                "free some space or give another --out"
            )

    def __str__(self) -> str:
        return f"memory: about {self.memory / GIGA:.1f} GB at most; disk: {self.disk / GIGA:.1f} GB while it is built"


def room_for(section: dict[str, Any], quantizer: Quantizer | None, context: int | None = None, copies: int = 1) -> Room:
    """What the export of a net needs.

    Args:
        section: the ``net:`` of a recipe.
        quantizer: None keeps fp32.
        context: tokens of a conversation; None: as in `Program`.
        copies: times the program's size that its backend takes while it lowers it.
    """
    net = build_net(section, "meta")
    for_device(net)
    program = program_bytes(net, quantizer, context_of(net, context))
    to_text = quantizer is not None and (quantizer.calibrated or quantizer.surveys)
    quantizing = 0.0
    for part in filter(None, (net.embed_tokens, net.vision_embed_tokens, *net.layers, net.lm_head)):
        most = _largest(part)
        fitting = FITTING * min(most, TOGETHER) if to_text else 0
        rounding = ROUNDING * most if quantizer else 0
        quantizing = max(quantizing, 4 * sum(p.numel() for p in part.parameters()) + rounding + fitting)
    lowering = copies * program + _largest(net)
    return Room(int(BASE + max(quantizing, lowering)), kept_bytes(net, quantizer) + program)


def _largest(part: nn.Module) -> int:
    """Bytes of its largest parameter in fp32."""
    return max((4 * p.numel() for p in part.parameters()), default=0)


def peak_memory() -> int:
    """The most bytes this process was ever resident with, pages of files included."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def available_memory() -> int | None:
    """Bytes a process may still take on this machine and in its control group; None where the system does not say."""
    found = [_meminfo("MemAvailable"), _left_in_group()]
    known = [number for number in found if number is not None]
    return min(known) if known else None


def _meminfo(name: str) -> int | None:
    file = Path("/proc/meminfo")
    if not file.is_file():  # macOS: what there is at all
        pages = os.sysconf_names.get("SC_PHYS_PAGES")
        return None if pages is None else os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def _left_in_group() -> int | None:
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not limit.is_file() or not limit.read_text().strip().isdigit():
        return None
    return int(limit.read_text()) - int(used.read_text())


def _nearest(path: Path) -> Path:
    """The path, or what is there of it."""
    return path if path.exists() else _nearest(path.absolute().parent)
