"""The one exception that means "your input", as opposed to "our bug"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message says what, what was got, and what to do instead.

    The command line prints it as one line; anything else is a bug and keeps its traceback.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or the valid names when none is close, or nothing when there are none."""
    names = sorted(set(valid))
    spelled = {valid_name.lower(): valid_name for valid_name in names}
    close = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {spelled[close[0]]!r}?"
    return f"; valid: {', '.join(names)}" if names else ""
