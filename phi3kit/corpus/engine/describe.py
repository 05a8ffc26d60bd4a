"""What decides a result, as one hash: options, contents of the files they name, and the code itself."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from phi3kit.families import family_of

Plain = Any  # what JSON can say
READ_AT_ONCE = 2**20


def describe(value: Any, contents: bool = True) -> Plain:
    """A value as JSON can say it, such that equal results have equal descriptions.

    A component is its class and its public attributes; one that states its content (`version` or `fingerprint`)
    is its class and that. A string that names a file is the string and, with `contents`, the file's content.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path):
        return _describe_name(str(value)) if contents else str(value)
    if isinstance(value, Mapping):
        return {str(key): describe(value[key], contents) for key in value}
    if isinstance(value, Set):
        return sorted((describe(item, contents) for item in value), key=json.dumps)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [describe(item, contents) for item in value]
    if callable(getattr(value, "describe", None)) and not isinstance(value, type):
        return value.describe()
    if _is_ours(value):
        return _describe_object(value)
    if isinstance(value, re.Pattern):
        return [value.pattern, value.flags]
    return hashlib.sha256(pickle.dumps(value)).hexdigest()


def _is_ours(value: Any) -> bool:
    """Components, dataclasses, and the final classes that recipes build."""
    kind = type(value)
    return bool(family_of(kind)) or is_dataclass(value) or getattr(kind, "__final__", False)


def _describe_object(value: Any) -> Plain:
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    for content in ("version", "fingerprint"):
        if isinstance(stated := getattr(value, content, None), str):
            return {"class": name, content: stated}
    if is_dataclass(value):
        options = {field.name: getattr(value, field.name) for field in fields(value)}
    else:
        options = {key: item for key, item in vars(value).items() if not key.startswith("_")}
    return {"class": name, **{key: describe(item) for key, item in options.items()}}


def _describe_name(text: str) -> Plain:
    if 0 < len(text) < 1024 and "\n" not in text and "\0" not in text and Path(text).is_file():
        return {"name": text, "sha256": sha256_of(Path(text))}
    return text


def sha256_of(file: Path) -> str:
    """Hash of a file's content; of a file that has not changed since, the hash already taken."""
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(file: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(READ_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


def digest(plain: Plain) -> str:
    """Hash of a description."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def code_of(value: Any) -> dict[str, str]:
    """The source behind every component inside a value: module -> hash of its file.

    What such a module imports at its top from its own package's folder counts too.
    """
    found: dict[str, ModuleType] = {}
    for item in objects_in(value):
        _collect(sys.modules.get(type(item).__module__), found)
    files = {name: inspect.getsourcefile(module) for name, module in sorted(found.items())}
    return {name: sha256_of(Path(file)) for name, file in files.items() if file}


def _collect(module: ModuleType | None, found: dict[str, ModuleType]) -> None:
    if module is None or module.__name__ in found or not getattr(module, "__file__", None):
        return
    found[module.__name__] = module
    folder = ".".join(module.__name__.split(".")[:2])  # phi3kit.corpus, or a plugin's own
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str) and name.startswith(f"{folder}."):
            _collect(sys.modules.get(name), found)


def objects_in(value: Any) -> Iterator[Any]:
    """Every component and dataclass inside a value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from objects_in(item)
    elif _is_ours(value):
        yield value
        for key, item in vars(value).items():
            if not key.startswith("_"):
                yield from objects_in(item)
