"""Readers of data sets of Hugging Face's ``datasets``: folders that it saved, and names that it knows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, final

from phi3kit.corpus.files import WHOLE, each_file, find, first_line
from phi3kit.corpus.parts import Divisible, Part
from phi3kit.corpus.row_documents import Unreadable, document_of, fields_of, left_out, rows_of
from phi3kit.errors import UserError
from phi3kit.families import Reader
from phi3kit.records import Document


@final
class SavedDataset(Reader, Divisible):
    """A data set that Hugging Face's ``datasets`` saved with ``save_to_disk``; the library itself is not needed.

    Args:
        path: the folder (of one split: the one with ``state.json``), or one above several splits.
        text_field: the column that holds the text; several: their texts, with a blank line between.
        id_field: the column that holds the id; null: file name and row number.
        unreadable: "skip" what cannot be read and list it among the rejected, or "stop" there.
    """

    def __init__(
        self,
        path: str,
        text_field: str | list[str] = "text",
        id_field: str | None = None,
        unreadable: Unreadable = "skip",
    ) -> None:
        self.path, self.text_field, self.id_field, self.unreadable = path, text_field, id_field, unreadable

    def read(self) -> Iterator[Document]:
        """All rows of all files, in order. Raises `UserError` naming the file and the row, with `unreadable: stop`."""
        return each_file(self)

    def files(self) -> list[tuple[str, Path]]:
        """Arrow files."""
        return [(name, file) for name, file in find(self.path, (".arrow",)) if not file.name.startswith("cache-")]

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """The rows of one file."""
        return self.read_part(name, file, WHOLE)

    def parts(self, file: Path, bytes_at_once: int) -> list[Part]:
        """Batches of rows."""
        return _parts(file, bytes_at_once)

    def read_part(self, name: str, file: Path, part: Part) -> Iterator[Document]:
        """The rows of one part."""
        return _documents(name, file, part, self.path, self.text_field, self.id_field, self.unreadable)


@final
class HubDataset(Reader, Divisible):
    """A data set by its name on Hugging Face's Hub: from the cache of ``datasets``, or through the network.

    Of a name met for the first time the library makes Arrow files in its cache; they are what is read.

    Args:
        name: on the Hub, e.g. allenai/c4; or a folder of files that the library reads.
        split: which of its splits.
        config: which of its configurations; null: its only one.
        revision: which version of it on the Hub; null: the newest.
        cache: folder of the library's cache; null: the library's own.
        text_field: the column that holds the text; several: their texts, with a blank line between.
        id_field: the column that holds the id; null: file name and row number.
        unreadable: "skip" what cannot be read and list it among the rejected, or "stop" there.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        config: str | None = None,
        revision: str | None = None,
        cache: str | None = None,
        text_field: str | list[str] = "text",
        id_field: str | None = None,
        unreadable: Unreadable = "skip",
    ) -> None:
        self.name, self.split, self.config, self.revision, self.cache = name, split, config, revision, cache
        self.text_field, self.id_field, self.unreadable = text_field, id_field, unreadable

    def read(self) -> Iterator[Document]:
        """All rows, in order. Raises `UserError` where there is no such data set, or naming the file and the row."""
        return each_file(self)

    def files(self) -> list[tuple[str, Path]]:
        """The Arrow files in the cache, made now if need be. Raises `UserError` where that cannot be done."""
        try:
            import datasets
        except ImportError as error:
            raise UserError(f"HubDataset needs the package datasets ({error}); pip install datasets") from error
        try:
            data = datasets.load_dataset(
                self.name, self.config, split=self.split, revision=self.revision, cache_dir=self.cache
            )
        except OSError as error:  # among them: not found, no network
            cache = self.cache or datasets.config.HF_DATASETS_CACHE
            raise UserError(
                f"the data set {self.name!r} is neither in the cache {cache} nor to be had from the Hub "
                f"({first_line(error)}); load it once where there is a network, with datasets.load_dataset, and bring "
                "that cache here, or give its files to another reader, e.g. ParquetFiles"
            ) from error
        except (ValueError, datasets.exceptions.DatasetsError) as error:
            raise UserError(f"the data set {self.name!r} cannot be loaded: {first_line(error)}") from error
        files = [Path(about["filename"]) for about in data.cache_files]
        return [(f"{self.name.strip('/').rpartition('/')[2]}/{file.name}", file) for file in files]

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """The rows of one file."""
        return self.read_part(name, file, WHOLE)

    def parts(self, file: Path, bytes_at_once: int) -> list[Part]:
        """Batches of rows."""
        return _parts(file, bytes_at_once)

    def read_part(self, name: str, file: Path, part: Part) -> Iterator[Document]:
        """The rows of one part."""
        return _documents(name, file, part, self.name, self.text_field, self.id_field, self.unreadable)


def _parts(file: Path, bytes_at_once: int) -> list[Part]:
    """`start` counts batches; what a part skips is mapped into memory, and not read."""
    parts = [Part(0, 0, 0)]
    size = 0
    for number, batch in enumerate(_batches(file)):
        if isinstance(batch, Exception):
            return [*parts[:-1], parts[-1]._replace(records=WHOLE.records)]  # whoever reads it says so
        if size >= bytes_at_once:
            last = parts[-1]
            parts.append(Part(number, last.before + last.records, 0))
            size = 0
        parts[-1] = parts[-1]._replace(records=parts[-1].records + batch.num_rows)
        size += batch.nbytes
    return parts


def _documents(
    name: str,
    file: Path,
    part: Part,
    source: str,
    text_field: str | list[str],
    id_field: str | None,
    unreadable: Unreadable,
) -> Iterator[Document]:
    wanted = {*fields_of(text_field), *([id_field] if id_field else [])}
    number, end = part.before, part.before + part.records
    for batch in islice(_batches(file), part.start, None):
        if number >= end:
            return
        if isinstance(batch, Exception):
            reason = f"{file} is not readable as Arrow, after row {number}: {first_line(batch)}"
            yield left_out(f"{name}:{number + 1}", source, reason, unreadable)
            return
        # where a column is missing, all are there to be named
        chosen = batch.select(sorted(wanted)) if wanted <= {*batch.schema.names} else batch
        for row in rows_of(chosen):
            number += 1
            place, id = f"{file}, row {number}", f"{name}:{number}"
            yield document_of(row, place, id, source, text_field, id_field, unreadable)


def _batches(file: Path) -> Iterator[Any]:
    """The batches of an Arrow stream; what went wrong, where it breaks off."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as source:
            yield from pyarrow.ipc.open_stream(source)
    except (pyarrow.ArrowException, OSError) as error:
        yield error
