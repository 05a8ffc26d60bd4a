"""A bundle is built in ``OUT.partial`` and takes its name when it is finished: whatever is at OUT is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from phi3kit import bundle
from phi3kit.errors import UserError


def check_target(out: Path) -> None:
    """Raise `UserError` where something other than an older bundle is in the way."""
    if out.exists() and not bundle.is_bundle(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already and is no bundle; give another --out or remove it")


def begin(out: Path, keep: str) -> Path:
    """A folder beside `out` to build in; of what a stopped export left there, only `keep` is used again."""
    partial = partial_of(out)
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}; give another --out") from error
    for left in partial.iterdir():
        if left.name != keep:
            _remove(left)
    return partial


def partial_of(out: Path) -> Path:
    """Where the bundle of `out` is built."""
    return out.with_name(f"{out.name}.partial")


def kept_bytes(out: Path, keep: str) -> int:
    """Bytes of what a stopped export of `out` left to go on from."""
    folder = partial_of(out) / keep
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0


def sweep(partial: Path, name: str) -> None:
    """Remove what served to build."""
    _remove(partial / name)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def finish(partial: Path, out: Path) -> None:
    """Give the finished bundle its name; an older one makes way only then."""
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)
