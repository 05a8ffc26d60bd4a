"""Seeds: what a model is asked about. Topics or problems of a file, or documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from phi3kit.errors import UserError
from phi3kit.families import Seed
from phi3kit.records import Document

FEW = 5  # words of a final answer


def passages(documents: Iterable[Document], first_characters: int) -> Iterator[Seed]:
    """A seed per document: the start of its text."""
    return (Seed(document.id, document.text[:first_characters], "passage") for document in documents)


def read_seeds(file: Path) -> list[Seed]:
    """The seeds of a file, each once: a topic per line; of .jsonl, a problem per row (``question``, ``answer``).

    An answer that ends with ``#### 42``, as in GSM8K, or that is a few words, is what solutions must come to.

    Raises:
        UserError: the file cannot be read, holds nothing, or a row is none.
    """
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; `seeds` is a file of topics, one per line") from error
    make = _problem if file.suffix == ".jsonl" else _topic
    seeds = (make(line.strip(), f"{file}:{number}") for number, line in enumerate(lines, 1) if line.strip())
    found = {seed.id: seed for seed in seeds}
    if not found:
        raise UserError(f"{file} holds no seeds; write a topic on each line")
    return list(found.values())


def _topic(line: str, place: str) -> Seed:
    return Seed(_id("topic", line), line, "topic")


def _problem(line: str, place: str) -> Seed:
    try:
        row = json.loads(line)
        question, answer = row["question"], row.get("answer")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{place} is no problem ({error}); give rows with `question` and, if known, `answer`"
        ) from error
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{place} has no text as its `question`, but {question!r:.40}")
    return Seed(_id("problem", question), question.strip(), "problem", "" if answer is None else _gold(str(answer)))


def _gold(answer: str) -> str:
    """What stands after ``####``, or all of an answer of a few words; "" for a solution that names no final answer."""
    _, mark, after = answer.rpartition("####")
    return after.strip() if mark or len(after.split()) <= FEW else ""


def _id(kind: str, text: str) -> str:
    return f"{kind}/{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
