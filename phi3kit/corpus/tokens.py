"""Documents' ids as chunks that litdata streams.

litdata's own `optimize` loses or repeats tokens when a worker dies and still exits 0, so its writer is used
directly, and what it says it wrote is compared with what was given to it. Each rank writes a folder; folders are
joined by putting their chunks side by side.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy

CHUNK_BYTES = 32 * 2**20
INDEX = "index.json"


class TokenWriter:
    """Writes one folder of chunks; a context manager.

    Args:
        folder: made if need be; must hold no chunks yet.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
        from phi3kit import torchvision_ops

        torchvision_ops.declare()
        from litdata.streaming.item_loader import TokensLoader
        from litdata.streaming.writer import BinaryWriter

        self.folder = folder
        self.documents = self.tokens = 0
        self._content = hashlib.sha256()
        self._writer = BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES, item_loader=TokensLoader())

    def __enter__(self) -> TokenWriter:
        return self

    def write(self, ids: numpy.ndarray) -> None:
        """Add a document's ids, its end included."""
        self._writer.add_item(self.documents, ids)
        self._content.update(ids.tobytes())
        self.documents += 1
        self.tokens += len(ids)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None and self.documents:
            self._writer.done()
            self._writer.merge()
            self._check()

    def _check(self) -> None:
        """What the index says is what was written; its time stamp becomes a hash of the content."""
        index = read_index(self.folder)
        indexed = indexed_tokens(index)
        assert indexed == self.tokens, f"{self.folder}: {self.tokens} tokens given, {indexed} indexed"
        index["updated_at"] = self._content.hexdigest()[:16]
        (self.folder / INDEX).write_text(json.dumps(index, sort_keys=True))


def read_index(folder: Path) -> dict[str, Any]:
    """A folder's index."""
    index: dict[str, Any] = json.loads((folder / INDEX).read_text())
    return index


def indexed_tokens(index: dict[str, Any]) -> int:
    """How many tokens an index knows of."""
    return sum(chunk["dim"] for chunk in index["chunks"])


def join(folders: Sequence[Path], out: Path) -> int:
    """Make one folder of several by linking their chunks; return the tokens its index knows of.

    Args:
        folders: of the ranks, in order.
        out: made.
    """
    out.mkdir(parents=True)
    joined: dict[str, Any] = {}
    contents = hashlib.sha256()
    for rank, folder in enumerate(folders):
        index = read_index(folder)
        joined = joined or index | {"chunks": []}
        assert index["config"] == joined["config"], f"{folder} was written in another way than {folders[0]}"
        contents.update(index["updated_at"].encode())
        for number, chunk in enumerate(index["chunks"]):
            name = f"chunk-{rank}-{number}.bin"
            link(folder / chunk["filename"], out / name)
            joined["chunks"].append(chunk | {"filename": name})
    joined["updated_at"] = contents.hexdigest()[:16] if len(folders) > 1 else joined["updated_at"]
    (out / INDEX).write_text(json.dumps(joined, sort_keys=True))
    return indexed_tokens(joined)


def link(file: Path, to: Path) -> None:
    """The same file at a second place; a copy where the file system cannot."""
    import shutil

    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)
