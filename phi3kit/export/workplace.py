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


def fresh(out: Path) -> Path:
    """An empty folder beside `out` to build in; what a killed export left there is swept away."""
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}; give another --out") from error
    return partial


def finish(partial: Path, out: Path) -> None:
    """Give the finished bundle its name; an older one makes way only then."""
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)
