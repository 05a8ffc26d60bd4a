"""The one exception that means "your input", as opposed to "our bug"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message says what, what was got, and what to do instead.

    The command line prints it as one line; anything else is a bug and keeps its traceback.
    """


def nearest(name: str, valid: Iterable[str], before: str = "") -> str:
    """`"; did you mean 'x'?"`, or the valid names when none is close, or nothing when there are none.

    Args:
        name: what was written.
        valid: what could have been.
        before: what stands before each name, as the beginning of a dotted key.
    """
    names = sorted(set(valid))
    spelled = {valid_name.lower(): valid_name for valid_name in names}
    close = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {before + spelled[close[0]]!r}?"
    return f"; valid: {', '.join(before + name for name in names)}" if names else ""
