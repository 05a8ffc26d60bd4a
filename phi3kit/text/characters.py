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


def whole_characters(text: str, where: str) -> str:
    r"""The text itself.

    JSON can hold half of a character (``"\ud83d"``, a surrogate, as JavaScript writes a string that was cut within an
    emoji), and Python reads bytes that are not UTF-8 as such halves.

    Args:
        text: what to look at.
        where: what it is, or which file and line it comes from.

    Raises:
        UserError: there is half of a character in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        what = f"the byte 0x{half - 0xDC00:02x}" if 0xDC80 <= half <= 0xDCFF else f"half of one (\\u{half:04x})"
        raise UserError(f"{where} is not text: character {error.start + 1} is {what}; give whole characters") from error
    return text
