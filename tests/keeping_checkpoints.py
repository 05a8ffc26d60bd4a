"""Training that keeps the checkpoints before the last when it is finished: what tests of resumption go on from.

As a script it is the command ``phi3kit``; Lightning starts it again for every further device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phi3kit.phases.run_folder import RunFolder


@contextmanager
def keeping_checkpoints() -> Iterator[None]:
    """Within it, finished runs keep all their checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "keep_newest", lambda self, count: None)
        yield


def as_if_stopped(run: Path) -> list[str]:
    """Take what the end of a finished run wrote away, its last checkpoint included; names of those left."""
    for name in ("done.json", "model.safetensors", "report.json"):
        (run / name).unlink()
    *left, last = sorted((run / "checkpoints").iterdir())
    last.unlink()
    return [path.name for path in left]


if __name__ == "__main__":
    from phi3kit.cli import main

    with keeping_checkpoints():
        sys.exit(main())
