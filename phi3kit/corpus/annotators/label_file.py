"""Labels people or models have given before: a file, by document id or by text."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, final

from phi3kit.corpus.annotators.scale import MOST, checked
from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled
from phi3kit.records import Document


class _Known(NamedTuple):
    """Labels of one document so far."""

    total: float
    labels: int
    rationale: str


@final
class LabelFile(Annotator):
    """Labels of a JSONL, CSV or Parquet file (also .jsonl.gz, .jsonl.zst); several of one document are averaged.

    Args:
        path: the file; every row has a label, and the id or the text of a document.
        aspect: what the labels are about.
        largest: the label that means most; labels are stretched from 0 to `largest` to 0 to 5 (labels of 0 and 1: 1).
        label_field: the key of the label.
        id_field: the key of the document's id; null: rows are matched by their text.
        text_field: the key of the text, where rows are matched by it; white space does not count.
        rationale_field: the key of the reason given, where there is one.
    """

    def __init__(
        self,
        path: str,
        aspect: str = "educational",
        largest: float = MOST,
        label_field: str = "label",
        id_field: str | None = None,
        text_field: str = "text",
        rationale_field: str = "rationale",
    ) -> None:
        if not Path(path).is_file():
            raise UserError(f"there is no file of labels {path!r}")
        if largest <= 0:
            raise UserError(f"largest is {largest:g}; give the label that means most, e.g. 1 for labels of 0 and 1")
        self.path, self._aspect, self.largest = path, aspect, largest
        self.label_field, self.id_field, self.text_field = label_field, id_field, text_field
        self.rationale_field = rationale_field

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """The file's name and a hash of its content."""
        return f"{Path(self.path).name} {sha256(Path(self.path).read_bytes()).hexdigest()[:16]}"

    def annotate(self, documents: Iterable[Document]) -> Iterator[Labelled]:
        """The documents the file has labels for. Raises `UserError` with the place of a bad row."""
        labels = self._read()
        for document in documents:
            key = document.id if self.id_field else _plain(document.text)
            if known := labels.get(key):
                yield Labelled(document, known.total / known.labels, known.rationale)

    def keys(self) -> list[str]:
        """What the first rows are matched by, shortened: for an error that shows why nothing matches."""
        return [key[:60] for key, _ in zip(self._read(), range(3), strict=False)]

    def _read(self) -> dict[str, _Known]:
        labels: dict[str, _Known] = {}
        by = self.id_field or self.text_field
        for place, row in _rows(Path(self.path)):
            key, label = row.get(by), row.get(self.label_field)
            if key in (None, "") or label in (None, ""):
                missing = by if key in (None, "") else self.label_field
                option = ("id_field" if self.id_field else "text_field") if missing == by else "label_field"
                raise UserError(f"{place} has no {missing!r} (it has: {', '.join(map(str, row))}); set `{option}`")
            value = checked(_number(label, place) * MOST / self.largest, label, place, self.largest)
            key = str(key) if self.id_field else _plain(str(key))
            before = labels.get(key, _Known(0.0, 0, ""))
            rationale = before.rationale or str(row.get(self.rationale_field) or "")
            labels[key] = _Known(before.total + value, before.labels + 1, rationale)
        if not labels:
            raise UserError(f"{self.path} holds no labels")
        return labels


def _plain(text: str) -> str:
    return " ".join(text.split())


def _number(label: Any, place: str) -> float:
    try:
        number = float(label)
    except (TypeError, ValueError) as error:
        raise UserError(f"{place}: the label {label!r} is not a number") from error
    if not math.isfinite(number):
        raise UserError(f"{place}: the label {label!r} is not a number")
    return number


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of every row."""
    if file.suffix == ".parquet":
        yield from _parquet(file)
    elif file.suffix in (".csv", ".tsv"):
        lines = io.StringIO(_text(file), newline="")
        table = csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", restkey="more")
        csv.field_size_limit(2**27)  # whole documents stand in a field
        for row in table:
            yield f"{file}:{table.line_num}", row
    else:
        for number, line in enumerate(_text(file).split("\n"), start=1):
            if line.strip():
                yield f"{file}:{number}", _json(line, f"{file}:{number}")


def _json(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place} is not a row: a mapping is expected, got {type(row).__name__}")
    return row


def _parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} is not readable as Parquet: {error}") from error
    yield from ((f"{file}, row {number}", row) for number, row in enumerate(rows, start=1))


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        if file.suffix == ".zst":
            import zstandard

            content = zstandard.ZstdDecompressor().stream_reader(content).read()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 at byte {error.start}") from error
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
