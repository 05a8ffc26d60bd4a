"""Processes leave others the processor while they wait, and none is left over when its parent is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from phi3kit import cli
from phi3kit.verbs import processes

CHILD = "import os, time; from phi3kit.verbs.processes import end_with_parent; end_with_parent(0.05); print(os.getpid(), flush=True); time.sleep(60)"  # noqa: E501
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_waiting_threads_sleep_unless_the_user_has_said_otherwise() -> None:
    environment: dict[str, str] = {}
    processes.wait_politely(environment)
    assert environment == {"GOMP_SPINCOUNT": processes.SPINS, "KMP_BLOCKTIME": processes.MILLISECONDS}
    for name in processes.WAITING:
        environment = {name: "of the user"}
        processes.wait_politely(environment)
        assert environment == {name: "of the user"}


@pytest.mark.parametrize("verb", ["fit", "run", "chat", "export"])
def test_it_is_set_before_torch_is_loaded(verb: str) -> None:
    code = (
        "import os, sys; from phi3kit import cli\n"
        "seen = lambda: 8 * ('torch' in sys.modules) + ('GOMP_SPINCOUNT' in os.environ)\n"
        "cli.import_module = lambda name: sys.exit(int(seen()))\n"
        f"cli.main([{verb!r}])"
    )
    clean = {name: value for name, value in os.environ.items() if name not in processes.WAITING}
    assert subprocess.run([sys.executable, "-c", code], env=clean).returncode == 1
    assert verb in cli.VERBS


@pytest.mark.parametrize("name", processes.LAUNCHED)
def test_a_launched_process_ends_when_its_parent_is_killed(name: str) -> None:
    environment = {**os.environ, name: "1"}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(200):
        if not _lives(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child lives on")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return not state.startswith("Z") and bool(state.strip())
