"""What a bundle is on disk: the folder `export` writes, and that `chat`, `verify` and apps read.

``bundle.json`` says everything an app must know and the sha256 of every other file, and at its end of itself: of its
bytes with those 64 digits replaced by zeros. `mobile/bundle.md` is the same contract in prose.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3kit import opened
from phi3kit.errors import UserError

ABOUT = "bundle.json"
VERSION = 2
NOBODYS = {".DS_Store", "desktop.ini", "Thumbs.db"}  # what file managers leave in folders that people look at
SEAL = slice(-68, -4)  # where the digits of its own sha256 are; a quotation mark and the end of the object follow


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
    content = as_json({"phi3kit_bundle": VERSION, **about, "files": files, "sha256": "0" * 64})
    partial = folder / f"{ABOUT}.partial"
    write(partial, content[: SEAL.start] + _own_digest(content) + content[SEAL.stop :])
    os.replace(partial, folder / ABOUT)


def read(folder: Path, *, anew: bool = False) -> Bundle:
    """Read a bundle. Every file is compared with its sha256 when it is opened on this machine for the first time;
    later only if its size or time stamps are not what they were.

    Args:
        folder: where it is.
        anew: compare every byte again.

    Raises:
        UserError: not a bundle, of another version, or a file that is missing, cut short, altered or not of it (named).
    """
    about = _read_about(folder)
    again, stamps = f"copy the bundle {folder} again or export it again", {}
    known = {} if anew else opened.remembered(folder, about["sha256"])
    for name, expected in about["files"].items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{file} is missing; {again}")
        stamps[name] = opened.stamp(file)
        size = stamps[name][0]
        if size != expected["bytes"]:
            state = "cut short" if size < expected["bytes"] else "longer than it was"
            raise UserError(f"{file} is {state}: {size} bytes of {expected['bytes']}; {again}")
        if known.get(name) != stamps[name] and sha256(file) != expected["sha256"]:
            raise UserError(f"{file} was altered: its sha256 is not the one in {ABOUT}; {again}")
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name not in {ABOUT, *about["files"]} and file.name not in NOBODYS:
            raise UserError(f"{file} does not belong to the bundle, {ABOUT} does not name it; remove it")
    if known != stamps:
        opened.remember(folder, about["sha256"], stamps)
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
    """The content of bundle.json, whose every byte is what was sealed."""
    path = folder / ABOUT
    again = "copy the bundle again or export it again"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{folder} is not a bundle: no readable {ABOUT} ({error.strerror})") from error
    try:
        about = json.loads(content)
        version = about["phi3kit_bundle"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); {again}") from error
    if version != VERSION:
        raise UserError(f"{path} is of version {version}; this phi3kit reads {VERSION}, export again")
    if content[SEAL] != _own_digest(content):
        raise UserError(f"{path} was altered: its own sha256 does not fit; {again}")
    return dict(about)


def _own_digest(content: bytes) -> bytes:
    """sha256 of bundle.json with zeros in its own place, as the digits that stand there."""
    blank = content[: SEAL.start] + b"0" * 64 + content[SEAL.stop :]
    return hashlib.sha256(blank).hexdigest().encode()
