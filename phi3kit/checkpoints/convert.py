"""Convert a folder: check it, build the new one beside its place, and give it its name when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from phi3kit.checkpoints.plan import plan
from phi3kit.checkpoints.workplace import building

Show = Callable[[Iterator[int], int], Iterable[int]]


def convert(folder: Path, out: Path, dtype: torch.dtype | None = None, show: Show | None = None) -> list[str]:
    """A checkpoint folder to a run folder, or a run to a checkpoint folder.

    Args:
        folder: what to convert, see `plan`.
        out: the new folder; must not exist, or be empty.
        dtype: of the weights that a run is written with; None: as they are stored.
        show: passes on the bytes that have been written, of so many, and shows how far it is.

    Returns:
        what was done, in lines.
    """
    conversion = plan(folder, dtype)
    with building(out, conversion.size) as partial:
        written = conversion.write(partial)
        for _ in written if show is None else show(written, conversion.size):
            pass
    return conversion.summary
