"""A folder is built in ``OUT.partial`` and takes its name when it is whole; what goes wrong leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from phi3kit.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def building(out: Path, size: int) -> Iterator[Path]:
    """An empty folder to build in, which is `out` afterwards.

    Args:
        out: must not exist, or be an empty folder.
        size: bytes that will be written, for the message where they do not fit.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there already; give another folder or remove it")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed one left
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in FULL:
            free = shutil.disk_usage(out.parent).free
            raise UserError(
                f"the disk is full: {out} needs {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; nothing was "
                "written: free some space and run again"
            ) from error
        raise UserError(f"cannot write {out}: {error.strerror}; give another folder") from error
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise
