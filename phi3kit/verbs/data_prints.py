"""What data a run was trained on: a fingerprint of every file and prepared folder that its recipe names, so that a run
does not go on with other rows than it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = "data.json"  # in a run's folder
MANIFEST = "manifest.json"

Prints = dict[str, dict[str, str]]  # of each place in the recipe: the path it names, and its fingerprint


def fingerprints(content: Any, at: str = "data") -> Prints:
    """Of all that a part of a recipe names on this disk."""
    return {key: {"path": str(path), "sha256": of} for key, path in _paths(content, at) if (of := fingerprint(path))}


def of_recipe(config: Any) -> Prints:
    """Of the data that a training recipe learns from and replays."""
    content = config.as_dict()
    return fingerprints(content.get("data")) | fingerprints(content.get("replay"), "replay")


def told(paths: list[str]) -> str:
    """That these have changed, in words."""
    return f"{', '.join(paths)} {'has' if len(paths) == 1 else 'have'} changed since it was trained on"


def _paths(content: Any, at: str) -> Iterator[tuple[str, Path]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _paths(value, f"{at}.{key}")
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _paths(value, f"{at}.{number}")
    elif isinstance(content, str | Path) and str(content) and len(str(content)) < 4096:
        yield at, Path(content)


def fingerprint(path: Path) -> str:
    """Of a file's bytes, or of what a prepared folder says it holds; "" of anything else."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if (path / MANIFEST).is_file():
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            held = manifest.get("outputs") or manifest  # not the versions of what made it
            return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
    except (OSError, ValueError):  # a word that is no path
        return ""
    return ""


def changed(run: Path, now: Prints | None = None) -> list[str]:
    """The paths whose content is no longer what the run was trained on; none where the run does not remember.

    Args:
        run: its folder.
        now: what is there now; None: looked up where the run found it.
    """
    file = run / FILE
    if not file.is_file():
        return []
    before: Prints = json.loads(file.read_text(encoding="utf-8"))
    if now is None:
        now = {key: {"sha256": fingerprint(Path(known["path"]))} for key, known in before.items()}
    differing = [key for key, known in before.items() if key in now and now[key]["sha256"] != known["sha256"]]
    return list(dict.fromkeys(before[key]["path"] for key in differing))
