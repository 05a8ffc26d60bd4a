"""Text that can be written as UTF-8, which half a character cannot."""

from __future__ import annotations

import re

from phi3kit.errors import UserError

_HALF = re.compile("[\ud800-\udfff]")


def half_character(text: str) -> UserError | None:
    """The complaint about a lone surrogate, half of a character that was cut in two; None where there is none."""
    found = _HALF.search(text)
    if found is None:
        return None
    around = ascii(text[max(0, found.start() - 20) : found.start() + 10])
    return UserError(
        f"the text has half a character, U+{ord(found[0]):04X} at {found.start()} ({around}); "
        "write the whole one, or leave it out"
    )
