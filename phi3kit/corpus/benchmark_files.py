"""Questions out of benchmark files, whatever their schema."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from phi3kit.errors import UserError

# Where the question is, tried in this order; of a row that is an object in an object (ARC's question.stem), inside it.
FIELDS = (
    "question",
    "query",
    "problem",
    "prompt",
    "goal",
    "instruction",
    "stem",
    "input",
    "context",
    "sentence",
    "text",
)
BESIDE = ("passage",)  # BoolQ: what the question is about, wherever it is a field of its own
ROWS = ("examples", "rows", "data", "questions")  # a JSON file that is an object keeps its rows under one of these
IDS = ("id", "task_id", "question_id", "idx")
# The scaffolding of prompts: what follows these labels at the start of a line is a part of its own.
LABEL = re.compile(r"^[ \t]*(passage|question|q|context|choices|options|answer|a)[ \t]*:[ \t]*", re.I | re.M)
NOT_ASKED = {"choices", "options", "answer", "a"}


class Question(NamedTuple):
    """A part of a benchmark's item that must not be in training data: its question, its passage."""

    benchmark: str
    id: str
    text: str


def read_questions(file: Path, fields: Sequence[str] = ()) -> Iterator[Question]:
    """The questions of a file, in order, without the labels and choices of its prompts.

    Args:
        file: JSONL, JSON, CSV or TSV (without a header its first column); its stem names the benchmark.
        fields: where the question is in a row, tried in order; empty: the usual names.

    Raises:
        UserError: the file cannot be read, or a row has none of the fields.
    """
    found = False
    for number, row in enumerate(_rows(file), start=1):
        texts = _texts(row, tuple(fields) or FIELDS)
        if not texts:
            keys = ", ".join(row) if isinstance(row, dict) else repr(row)[:60]
            raise UserError(
                f"{file}, row {number} has no question: none of {', '.join(fields or FIELDS)} in {keys}; "
                "name its field in `fields`"
            )
        name = next((str(row[key]) for key in IDS if isinstance(row, dict) and key in row), str(number))
        for text in texts:
            for part in asked(text):
                found = True
                yield Question(file.stem, name, part)
    if not found:
        raise UserError(f"{file} holds no questions; give a file of one question per row")


def asked(prompt: str) -> list[str]:
    """The parts of a prompt that ask: without "Question:", without choices and the place for the answer."""
    parts, label, start = [], "", 0
    for match in LABEL.finditer(prompt):
        parts.append((label, prompt[start : match.start()]))
        label, start = match[1].lower(), match.end()
    parts.append((label, prompt[start:]))
    return [text.strip() for label, text in parts if label not in NOT_ASKED and text.strip()]


def _texts(row: Any, fields: Sequence[str]) -> list[str]:
    if isinstance(row, str):
        return [row]
    if not isinstance(row, dict):
        return []
    beside = [row[field] for field in BESIDE if isinstance(row.get(field), str)]
    for field in fields:
        value = row.get(field)
        if isinstance(value, str) and value.strip():
            return [value, *beside]
        if isinstance(value, dict) and (inner := _texts(value, fields)):
            return [*inner, *beside]
    return []


def _rows(file: Path) -> Iterator[Any]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            if file.suffix == ".jsonl":
                yield from (json.loads(line) for line in stream if line.strip())
            elif file.suffix == ".json":
                whole = json.load(stream)
                yield from whole if isinstance(whole, list) else _inside(file, whole)
            elif file.suffix in (".csv", ".tsv"):
                yield from _table(stream, "," if file.suffix == ".csv" else "\t")
            else:
                raise UserError(f"{file} is no benchmark that can be read; give .jsonl, .json, .csv or .tsv")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"cannot read the benchmark {file}: {error}") from error


def _inside(file: Path, whole: dict[str, Any]) -> list[Any]:
    for key in ROWS:
        if isinstance(whole.get(key), list):
            return whole[key]
    raise UserError(f"{file} is an object without rows; keep them in a list, or under one of {', '.join(ROWS)}")


def _table(stream: Any, delimiter: str) -> Iterator[Any]:
    rows = csv.reader(stream, delimiter=delimiter)
    header = next(rows, [])
    if {name.strip().lower() for name in header} & {*FIELDS, *BESIDE}:
        yield from (dict(zip(map(str.strip, map(str.lower, header)), row, strict=False)) for row in rows)
    elif header:
        yield header[0]
        yield from (row[0] for row in rows if row)
