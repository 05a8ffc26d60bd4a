"""What a bundle is on disk: the folder `export` writes, and that `chat`, `verify` and apps read.

``bundle.json`` says everything an app must know and the sha256 of every other file, and of itself (without that
line). `mobile/bundle.md` is the same contract in prose.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError

ABOUT = "bundle.json"
VERSION = 1


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are what they were when it was written.

    Args:
        folder: where it is.
        about: the content of bundle.json.
    """

    folder: Path
    about: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The `.pte`."""
        return self.folder / self.about["model"]

    @property
    def tokenizer(self) -> Path:
        """The device's tokenizer.json."""
        return self.folder / self.about["tokenizer"]

    @property
    def context(self) -> int:
        """Tokens a conversation may have."""
        return int(self.about["context"])

    @property
    def stop_ids(self) -> list[int]:
        """Ids that end an answer."""
        return list(self.about["stop"]["ids"])


def is_bundle(folder: Path) -> bool:
    """Whether a folder claims to be one."""
    return (folder / ABOUT).is_file()


def seal(folder: Path, about: Mapping[str, Any], proven: Mapping[str, str] | None = None) -> None:
    """Write bundle.json over the files that are there; it comes last, whole or not at all.

    Args:
        folder: what becomes a bundle.
        about: the content, without the files.
        proven: sha256 of files that must still be what they were.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ABOUT)
    found = {name: sha256(folder / name) for name in names}
    for name, expected in (proven or {}).items():
        if found.get(name) != expected:
            raise UserError(f"{folder / name} changed while it was proven; export again")
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": digest} for name, digest in found.items()}
    content = {"phi3kit_bundle": VERSION, **about, "files": files}
    content["sha256"] = _hash_of(content)
    partial = folder / f"{ABOUT}.partial"
    write(partial, as_json(content))
    os.replace(partial, folder / ABOUT)


def read(folder: Path) -> Bundle:
    """Read a bundle and check every file against its sha256.

    Raises:
        UserError: not a bundle, of another version, or a file that is missing, cut short or altered (named).
    """
    about = _read_about(folder)
    for name, expected in about["files"].items():
        file = folder / name
        again = f"copy the bundle {folder} again or export it again"
        if not file.is_file():
            raise UserError(f"{file} is missing; {again}")
        size = file.stat().st_size
        if size != expected["bytes"]:
            state = "cut short" if size < expected["bytes"] else "longer than it was"
            raise UserError(f"{file} is {state}: {size} bytes of {expected['bytes']}; {again}")
        if sha256(file) != expected["sha256"]:
            raise UserError(f"{file} was altered: its sha256 is not the one in {ABOUT}; {again}")
    return Bundle(folder, about)


def write(path: Path, content: bytes) -> None:
    """Write a file, or say in one line why not (a full disk)."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({len(content)} bytes): {error.strerror}; free some space and export again"
        ) from error


def as_json(content: Any) -> bytes:
    """Content as a JSON file people can read."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def sha256(file: Path) -> str:
    """Hex digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        given = about.pop("sha256")
    except OSError as error:
        raise UserError(f"{folder} is not a bundle: no readable {ABOUT} ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); copy the bundle again or export it again") from error
    if given != _hash_of(about):
        raise UserError(f"{path} was altered: its own sha256 does not fit; copy the bundle again or export it again")
    if about["phi3kit_bundle"] != VERSION:
        raise UserError(f"{path} is of version {about['phi3kit_bundle']}; this phi3kit reads {VERSION}, export again")
    return about


def _hash_of(about: Mapping[str, Any]) -> str:
    """sha256 of the content without its own line, as compact JSON with sorted keys."""
    text = json.dumps(about, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
