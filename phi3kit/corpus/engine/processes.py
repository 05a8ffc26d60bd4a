"""Ranks in processes of their own, watched: one that dies, even killed, stops the others and is named.

datatrove's own pool waits forever for a worker that was killed. Workers are forked from a server that has already
imported what they need, and end by themselves when whoever started them is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from phi3kit.errors import UserError

PRELOADED = ["phi3kit.corpus", "phi3kit.corpus.engine.step"]
ONE_THREAD = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # a worker is one core


def run_in_processes(name: str, executor: Any, ranks: Sequence[int], workers: int) -> None:
    """Run ranks of a datatrove executor, a few at a time.

    Raises:
        UserError: a worker was killed. A worker that failed has told so itself; then this ends early.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    waiting, running = list(ranks), dict[int, tuple[BaseProcess, int]]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                rank = waiting.pop(0)
                process: BaseProcess = context.Process(target=_work, args=(executor, rank), name=f"{name}-{rank}")
                process.start()
                running[process.sentinel] = process, rank
            for sentinel in wait(list(running)):
                process, rank = running.pop(sentinel)  # type: ignore[arg-type]
                process.join()
                code = process.exitcode or 0
                if code < 0:
                    what = signal.Signals(-code).name
                    raise UserError(
                        f"{name}: the worker of rank {rank} was killed by {what} (out of memory?); nothing is lost, "
                        "run the same command again, with fewer workers if memory is short"
                    )
                if code:
                    return
    finally:
        for left, _ in running.values():
            left.kill()
            left.join()


def _work(executor: Any, rank: int) -> None:
    """A worker's life."""
    from loguru import logger

    for variable in ONE_THREAD:
        os.environ.setdefault(variable, "1")
    logger.disable("datatrove")
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        executor._run_for_rank(rank, local_rank=1)
    except Exception:  # told in the stage's folder
        sys.exit(1)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
