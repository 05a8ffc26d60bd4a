"""What is released is gone, and its memory is the system's."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from phi3kit.export.released import released

MEGABYTE = 2**20


class Ring:
    """Holds itself, as ExecuTorch's graphs do."""

    def __init__(self) -> None:
        self.itself = self


def resident() -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["VmRSS"].split()[0])


def test_what_holds_itself_is_gone():
    def work() -> tuple[weakref.ref[Ring], int]:
        return weakref.ref(Ring()), 7

    ring, found = released(work)
    assert (ring(), found) == (None, 7)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much is resident")
def test_many_small_pieces_go_back():
    """One that stays above them keeps glibc from giving them back by itself."""
    stays, before = [], resident()

    def work() -> int:
        pieces = [torch.zeros(4096) for _ in range(10 * 1024)]
        stays.append(torch.zeros(4096))
        return resident() + 0 * len(pieces)

    assert released(work) > before + 120 * MEGABYTE
    assert resident() < before + 40 * MEGABYTE
