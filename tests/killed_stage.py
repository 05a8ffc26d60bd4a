"""A stage one of whose workers kills itself; a module of its own, so that workers can import it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.corpus.engine.stage import Stage


@dataclass(frozen=True)
class Suicide(Stage):
    """Rank 1 dies as if the kernel had run out of memory, until the file ``mended`` is there."""

    name = "suicide"
    folder: str

    @property
    def ranks(self) -> int:
        return 3

    def work(self, rank: int, folder: Path) -> dict[str, Any]:
        if rank == 1 and not (Path(self.folder) / "mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"rank": rank}
