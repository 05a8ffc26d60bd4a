"""Which bundles this machine has hashed already, so that two gigabytes are not read again at every start.

A file counts as the same while its size and time stamps are. What was written in the last two seconds is not
remembered: a file system's clock may not tell it from what is written next.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = 100  # bundles remembered
SETTLED = 2 * 10**9  # nanoseconds; FAT's time stamps have two seconds

Stamp = list[int]


def stamp(file: Path) -> Stamp:
    """Size, and when content and attributes changed last (nanoseconds)."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def remembered(folder: Path, seal: str) -> dict[str, Stamp]:
    """Stamps of a bundle's files when they were hashed; none of another bundle that stood there.

    Args:
        folder: of the bundle.
        seal: its bundle.json's sha256.
    """
    known = _read().get(str(folder.resolve()), {})
    return dict(known["files"]) if known.get("seal") == seal else {}


def remember(folder: Path, seal: str, stamps: Mapping[str, Stamp]) -> None:
    """Keep the stamps for the next opening; where nothing can be written, the next one hashes again."""
    before = time.time_ns() - SETTLED
    files = {name: times for name, times in stamps.items() if max(times[1:]) < before}
    known = _read()
    known.pop(str(folder.resolve()), None)
    known[str(folder.resolve())] = {"seal": seal, "files": files}
    with contextlib.suppress(OSError, RuntimeError):
        file = _file()
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(dict(list(known.items())[-KEPT:]), indent=1))
        os.replace(partial, file)


def _file() -> Path:
    """In the user's cache (XDG Base Directory Specification). RuntimeError: a user without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "phi3kit" / "opened.json"


def _read() -> dict[str, Any]:
    """What is remembered; nothing, where the file is missing or damaged."""
    try:
        known = json.loads(_file().read_text())
    except (OSError, ValueError, RuntimeError):
        return {}
    return known if isinstance(known, dict) else {}
