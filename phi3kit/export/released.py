"""Memory that goes back to the system when its user is done: programs and nets are in memory one after the other."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def released(work: Callable[[], T]) -> T:
    """What `work` gives. Everything else it opened is gone then, and its memory is the system's again.

    Args:
        work: what it opens must be its own: nobody else may hold it.
    """
    try:
        return work()
    finally:
        give_back()


def give_back() -> None:
    """What nobody holds any more. glibc keeps what was freed in small pieces for itself, unless it is asked."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
