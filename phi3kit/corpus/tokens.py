"""Documents as chunks of token ids that litdata streams.

litdata's own `optimize` loses or repeats tokens when a worker dies and still exits 0, so its writer is used
directly, in this process, and what it says it wrote is compared with what was given to it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy

from phi3kit.families import Tokenizer
from phi3kit.text.template import END_OF_TEXT

CHUNK_BYTES = 32 * 2**20


class TokenWriter:
    """Writes one folder of chunks; a context manager. Each document ends with ``<|endoftext|>``.

    Ids are stored as uint16 where the vocabulary fits, otherwise as int32.

    Args:
        folder: made if need be; must hold no chunks yet.
        tokenizer: gives the ids.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
        from phi3kit import torchvision_ops

        torchvision_ops.declare()
        from litdata.streaming.item_loader import TokensLoader
        from litdata.streaming.writer import BinaryWriter

        self.folder, self.tokenizer = folder, tokenizer
        self.documents = self.tokens = 0
        self._end = tokenizer.special_tokens[END_OF_TEXT]
        self._type = numpy.uint16 if tokenizer.vocab_size <= 2**16 else numpy.int32
        self._content = hashlib.sha256()
        self._writer = BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES, item_loader=TokensLoader())

    def __enter__(self) -> TokenWriter:
        return self

    def write(self, texts: Iterable[list[int]]) -> None:
        """Add encoded documents, without their end."""
        for ids in texts:
            row = numpy.asarray([*ids, self._end], dtype=self._type)
            self._writer.add_item(self.documents, row)
            self._content.update(row.tobytes())
            self.documents += 1
            self.tokens += len(row)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None and self.documents:
            self._writer.done()
            self._writer.merge()
            self._check()

    def _check(self) -> None:
        """What the index says is what was written; its time stamp becomes a hash of the content."""
        path = self.folder / "index.json"
        index = json.loads(path.read_text())
        indexed = sum(chunk["dim"] for chunk in index["chunks"])
        assert indexed == self.tokens, f"{self.folder}: {self.tokens} tokens given, {indexed} indexed"
        index["updated_at"] = self._content.hexdigest()[:16]
        path.write_text(json.dumps(index, sort_keys=True))
