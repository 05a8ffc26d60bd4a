"""A filter that fails or says nonsense is named, with the document and the line of its code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final

import pytest

from phi3kit.corpus import JSONLines, Preparation, Progress
from phi3kit.corpus.manifest import headline
from phi3kit.corpus.profiles import judge
from phi3kit.corpus.queries import Query
from phi3kit.errors import UserError
from phi3kit.families import Cleaner, Filter
from phi3kit.records import Document


@final
class Failing(Filter):
    """Divides by the number of lamps."""

    def reject(self, document: Document) -> str | None:
        """Why not."""
        return None if 1 / document.text.count("lamp") < 2 else "dark"


@final
class Saying(Filter):
    """Says something.

    Args:
        what: it says.
    """

    def __init__(self, what: Any) -> None:
        self.what = what

    def reject(self, document: Document) -> str | None:
        """Anything."""
        return self.what


@final
class Careless(Cleaner):
    """Gives a text for a document."""

    def clean(self, document: Document) -> Document:
        """A text."""
        return document.text  # type: ignore[return-value]


DARK = Document("a.jsonl:3", "no light here", "notes")


def test_a_filter_that_fails_is_named_with_the_document() -> None:
    told = (
        r"^Failing\.reject failed on the document 'a\.jsonl:3' of notes: ZeroDivisionError: division by zero "
        r"\(.*test_lawless_filters\.py:\d+\)$"
    )
    with pytest.raises(UserError, match=told):
        judge([Failing()], DARK)
    with pytest.raises(UserError, match=told):
        Query("web", filters=[Failing()]).reject(DARK)


@pytest.mark.parametrize("what", [True, False, 3, ["a"], b"x"])
def test_a_filter_gives_its_reason_as_text(what: Any) -> None:
    with pytest.raises(UserError, match=r"Saying\.reject gave .* it must give the reason as a text, or None"):
        judge([Saying(what)], DARK)
    assert judge([Saying("dark"), Failing()], DARK)[1] == ("Saying", "dark")
    assert judge([Saying(None)], DARK)[1] is None


def test_a_cleaner_gives_a_document() -> None:
    with pytest.raises(UserError, match=r"Careless\.clean gave 'no light here' .* it must give the document"):
        judge([Careless()], DARK)


def test_prepare_tells_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": f"{'lamp' * (i != 4)} number {i}"}) for i in range(9))
    )
    given: dict[str, Any] = {"readers": [JSONLines(str(tmp_path / "a.jsonl"))], "vocab_size": 300}
    with pytest.raises(UserError, match=r"Failing\.reject failed on the document 'a\.jsonl:5'"):
        Preparation(**given, filters=[Failing()]).run(tmp_path / "out", Progress(quiet=True))


def test_a_tokenizer_smaller_than_asked_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": f"lamp number {i}"}) for i in range(9)))
    readers = [JSONLines(str(tmp_path / "a.jsonl"))]
    manifest = Preparation(readers=readers, vocab_size=5000).run(tmp_path / "out", Progress(quiet=True))
    n = manifest["tokenizer"]["vocab_size"]
    assert n < 5000
    assert headline(manifest)[-1].endswith(f" of {n} ids, not 5000: these documents hold no more pieces")
