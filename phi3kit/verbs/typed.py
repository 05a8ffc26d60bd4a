"""What a user types, or pipes in: one line is one turn.

At a terminal there are editing, history, lines of any length and pastes of several lines as one turn, where Python has
readline (Windows brings its own editing).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from phi3kit.errors import UserError
from phi3kit.text.characters import whole_characters

PROMPT = "you> "


def prepare() -> bool:
    """Let no byte of input or output be a traceback, and a terminal edit lines; whether there is a terminal."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
    if not sys.stdin.isatty():
        return False
    with contextlib.suppress(ImportError):
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")
    return True


def turns(terminal: bool) -> Iterator[str]:
    """What is said, one turn after the other, until the input ends or Ctrl-C is typed twice. A line that is not text is
    told, and is no turn."""
    stopped = False  # whether Ctrl-C was the last thing that was typed
    while True:
        try:
            text = input(PROMPT if terminal else "").strip()
            stopped = False
            yield whole_characters(text, "this line")
        except EOFError:
            if terminal:
                print()
            return
        except KeyboardInterrupt:
            if not terminal or stopped:
                raise
            stopped = True
            print("\n(Ctrl-C again or Ctrl-D ends the conversation)")
        except UserError as error:
            print(f"phi3kit: {error}", file=sys.stderr)


def agreed(question: str) -> bool:
    """Whether the user says yes, or just Enter."""
    try:
        return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        return False
