"""What is typed at a terminal (a pseudo-terminal here), or piped in."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time

import pytest
from arithmetic import environment

SCRIPT = """
from phi3kit.verbs import typed
terminal = typed.prepare()
try:
    for turn in typed.turns(terminal):
        print("<" + ascii(turn) + ">", flush=True)
        if turn == "full": print("agreed", typed.agreed("Again?"), flush=True)
except KeyboardInterrupt:
    print("ended", flush=True)
"""


class Terminal:
    """The script at a pseudo-terminal."""

    def __init__(self) -> None:
        pty = pytest.importorskip("pty")
        self.process, self.fd = pty.fork()
        if self.process == 0:
            os.environ.update(environment(), TERM="xterm")
            os.execv(sys.executable, [sys.executable, "-c", SCRIPT])

    def until(self, text: bytes, seconds: float = 60) -> bytes:
        """What comes up to a text."""
        end, came = time.monotonic() + seconds, b""
        while text not in came and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                came += os.read(self.fd, 4096)
        assert text in came, came
        return came

    def says(self, keys: bytes, text: bytes) -> bytes:
        """What comes after some keys, up to a text."""
        time.sleep(0.5)  # readline misses a Ctrl-C that comes between its prompt and its first look at the keys
        os.write(self.fd, keys)
        return self.until(text)


@pytest.fixture
def terminal():
    at = Terminal()
    at.until(b"you> ")
    yield at
    with contextlib.suppress(OSError):
        os.close(at.fd)
    os.waitpid(at.process, 0)


def test_keys_history_pastes_and_long_lines(terminal):
    pytest.importorskip("readline")
    terminal.says(b"wor\x1b[Dx\n", b"<'woxr'>")
    terminal.says(b"\x1b[A\n", b"<'woxr'>")
    terminal.says(b"\x1b[200~one\rtwo\n\x1b[201~\n", rb"<'one\ntwo'>")
    long = b"long " * 2000
    for start in range(0, len(long), 1000):
        os.write(terminal.fd, long[start : start + 1000])
    came = terminal.says(b"\n", b" long'>")
    assert came.count(b"long") >= 2000
    terminal.says("café 東京\n".encode(), rb"<'caf\xe9 \u6771\u4eac'>")


def test_ctrl_c_twice_or_ctrl_d_ends(terminal):
    terminal.says(b"half a li\x03", b"Ctrl-C again or Ctrl-D")
    terminal.says(b"whole\n", b"<'whole'>")
    terminal.says(b"\x03", b"Ctrl-C again")
    terminal.says(b"\x03", b"ended")


def test_a_question_of_ours(terminal):
    terminal.says(b"full\n", b"Again? [Y/n] ")
    terminal.says(b"\n", b"agreed True")
    terminal.says(b"full\n", b"Again? [Y/n] ")
    terminal.says(b"n\n", b"agreed False")
    terminal.says(b"full\n", b"Again? [Y/n] ")
    terminal.says(b"\x03", b"agreed False")


def test_lines_in_a_pipe():
    """A byte that is not UTF-8 costs its line, and is told in one."""
    lines = "first\ncaf\N{REPLACEMENT CHARACTER}?\n東京\r\n  last ".encode().replace(
        "\N{REPLACEMENT CHARACTER}".encode(), b"\xe9"
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment(), input=lines, capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines() == ["<'first'>", r"<'\u6771\u4eac'>", "<'last'>"]
    assert done.stderr.decode() == (
        "phi3kit: this line is not text: character 4 is the byte 0xe9; give whole characters\n"
    )
