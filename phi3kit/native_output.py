"""Keeps what ExecuTorch's C++ and its companions print about themselves off the terminal, unless something fails.

They write to file descriptors 1 and 2 directly, so Python's logging and `sys.stderr` do not see it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

CHATTY = ("torchao", "torch.utils._pytree", "torch._export", "executorch", "root")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Nothing written inside reaches the terminal. An exception carries the last lines of it as a note."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        _flush()
        for descriptor in (1, 2):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(log.fileno(), descriptor)
        stack.callback(_flush)
        try:
            with _python_quiet():
                yield
        except Exception as error:
            _flush()
            log.seek(max(0, log.tell() - 4000))
            printed = log.read().decode(errors="replace").strip()
            if printed:
                error.add_note(f"printed meanwhile:\n{printed}")
            raise


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()


@contextlib.contextmanager
def _python_quiet() -> Iterator[None]:
    """Python's own warnings, and the chatty loggers below error."""
    levels = {name: logging.getLogger(name).level for name in CHATTY}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
