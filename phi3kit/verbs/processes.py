"""How a process gets on with others: it leaves them the processor while it waits, and ends with its parent.

This file imports nothing heavy: what it sets must be there before torch is loaded.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import MutableMapping

LAUNCHED = ("LOCAL_RANK", "PHI3KIT_LAUNCHED")  # set for processes that another one started to train with it
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SPINS = "10000"  # turns that GNU OpenMP's threads wait awake for the next piece of work; by default about 300,000
MILLISECONDS = "1"  # the same for LLVM's and Intel's OpenMP, by default 200


def wait_politely(environment: MutableMapping[str, str]) -> None:
    """Let threads that have nothing to do sleep soon, instead of spinning while others could compute on their core.

    What the user has set stays.
    """
    if not any(name in environment for name in WAITING):
        environment["GOMP_SPINCOUNT"], environment["KMP_BLOCKTIME"] = SPINS, MILLISECONDS


def end_with_parent(every: float = 1.0) -> None:
    """End this process soon after the one that launched it has ended, however that was, so that none is left over.

    Args:
        every: seconds between looks.
    """
    if any(name in os.environ for name in LAUNCHED):
        threading.Thread(target=_watch, args=(os.getppid(), every), daemon=True).start()


def _watch(parent: int, every: float) -> None:
    while os.getppid() == parent:
        time.sleep(every)
    os._exit(1)
