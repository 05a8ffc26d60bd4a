"""Which way a folder is to be converted, and everything checked before the first byte is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import torch

from phi3kit.errors import UserError


class Conversion(ABC):
    """A conversion that has been checked and can begin.

    `size` is how many bytes of numbers it writes, `summary` says in lines what it does.
    """

    size: int
    summary: list[str]

    @abstractmethod
    def write(self, out: Path) -> Iterator[int]:
        """Write the new folder's content into an empty one; yields bytes as they are written."""


def plan(folder: Path, dtype: torch.dtype | None = None) -> Conversion:
    """The conversion of a checkpoint folder (it has a config.json) or of a run (a config.yaml).

    Args:
        folder: what to convert.
        dtype: of the weights that a run is written with; None: as they are stored.

    Raises:
        UserError: neither of the two, or something in it is missing, damaged or contradictory.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    if (folder / "config.json").is_file():
        from phi3kit.checkpoints.inward import Inward

        if dtype is not None:
            raise UserError("a checkpoint keeps the type of its weights; --dtype is for writing a run")
        return Inward(folder)
    if (folder / "config.yaml").is_file():
        from phi3kit.checkpoints.outward import Outward

        return Outward(folder, dtype)
    raise UserError(
        f"{folder} is neither a checkpoint folder (no config.json) nor a run (no config.yaml); give one of them"
    )
