"""One at a time: two processes that write into one folder would mix their work without a word."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phi3kit.errors import UserError

ONE_OF_SEVERAL = ("LOCAL_RANK", "SLURM_PROCID")  # set for processes that train one net together


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep a second phi3kit of the same machine and user out of a folder, for as long as this one lives.

    Raises:
        UserError: there is one at work already.
    """
    if any(name in os.environ for name in ONE_OF_SEVERAL):
        yield
        return
    locks = Path(tempfile.gettempdir()) / f"phi3kit-{os.getuid()}"
    locks.mkdir(mode=0o700, exist_ok=True)
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()
    with (locks / f"{name}.lock").open("w") as file:
        os.register_at_fork(after_in_child=file.close)  # a data loader's worker may outlive a killed training
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another phi3kit is writing to {out}; wait for it, stop it, or give another --out"
            ) from error
        yield
