"""Whether a folder can be written to, asked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from phi3kit.errors import UserError


def check_out(out: Path) -> Path:
    """The folder, which may not be there yet. Raises `UserError` where it cannot be made or written to."""
    if out.is_symlink() and not out.exists():
        raise UserError(f"out {out} is a link to {out.readlink()}, which is not there; give another --out")
    above = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    if not above.is_dir():
        what = "is a file" if above == out else f"lies below {above}, which is no folder"
        raise UserError(f"out {out} {what}; give a folder with --out")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {above}: permission denied; give another --out")
    return out


def check_no_strangers(out: Path, own: Iterable[str]) -> None:
    """Raise `UserError` where a folder holds files that no earlier run of the same kind can have left there.

    Args:
        out: the folder.
        own: names that such a run writes.
    """
    if not out.is_dir():
        return
    known = set(own)
    strangers = sorted(path.name for path in out.iterdir() if path.name not in known and path.suffix != ".partial")
    if strangers:
        raise UserError(
            f"{out} holds other files ({', '.join(strangers[:3])}{', …' if len(strangers) > 3 else ''}); "
            "give a new or an empty folder with --out"
        )
