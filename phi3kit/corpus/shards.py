"""Documents in Parquet files of bounded size: what stages hand to each other, and `scored/` in the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from phi3kit.errors import UserError
from phi3kit.records import Document

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE, BYTES_AT_ONCE = 1000, 8 * 2**20  # of a row group: what is in memory at a time
SCORES = "scores"  # metadata key: aspect -> number


class ShardWriter:
    """Writes documents to one Parquet file; a context manager.

    Columns: id, text, source, metadata (JSON), and one per aspect of `scores`.

    Args:
        file: to write.
        aspects: scores that get a column of their own.
    """

    def __init__(self, file: Path, aspects: Sequence[str] = ()) -> None:
        import pyarrow
        import pyarrow.parquet

        strings = [(name, pyarrow.string()) for name in ("id", "text", "source", "metadata")]
        self.schema = pyarrow.schema([*strings, *((aspect, pyarrow.float64()) for aspect in aspects)])
        self.aspects, self.rows, self.bytes = tuple(aspects), 0, 0
        self._pending: list[dict[str, Any]] = []
        self._pending_bytes = 0
        self._writer = pyarrow.parquet.ParquetWriter(file, self.schema, compression="zstd", compression_level=1)

    def __enter__(self) -> ShardWriter:
        return self

    def write(self, document: Document) -> None:
        """Add a document."""
        scores: Mapping[str, float] = document.metadata.get(SCORES, {})
        metadata = json.dumps(document.metadata, ensure_ascii=False)
        row = {"id": document.id, "text": document.text, "source": document.source, "metadata": metadata}
        self._pending.append(row | {aspect: scores[aspect] for aspect in self.aspects})
        size = len(document.text.encode()) + len(metadata)
        self.rows, self.bytes, self._pending_bytes = self.rows + 1, self.bytes + size, self._pending_bytes + size
        if len(self._pending) >= ROWS_AT_ONCE or self._pending_bytes >= BYTES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self._pending:
            self._writer.write_table(pyarrow.Table.from_pylist(self._pending, schema=self.schema))
        self._pending, self._pending_bytes = [], 0

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def write_shard(file: Path, documents: Iterable[Document], aspects: Sequence[str] = ()) -> int:
    """Write documents to a file; return how many."""
    with ShardWriter(file, aspects) as writer:
        for document in documents:
            writer.write(document)
    return writer.rows


def read_shard(file: Path) -> Iterator[Document]:
    """The documents of a file, in order. Raises `UserError` with the file's name when it cannot be read."""
    for row in read_columns(file, ["id", "text", "source", "metadata"]):
        yield Document(row["id"], row["text"], row["source"], json.loads(row["metadata"]))


def read_columns(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Some columns of a shard, row by row."""
    for batch in read_batches(file, columns):
        yield from batch.to_pylist()


def read_batches(file: Path, columns: Sequence[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
    """A Parquet file, a row group or less at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        yield from table.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(columns) if columns else None)
    except (pyarrow.ArrowException, OSError) as error:
        told = str(error).splitlines()[0]
        raise UserError(f"cannot read {file}: {told}; remove {file.parent.parent} and run again") from error
