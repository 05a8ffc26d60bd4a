"""Each filter: what it rejects, with which reason, and what it leaves alone."""

from __future__ import annotations

import pytest

from phi3kit.corpus import Alphabet, Boilerplate, Length, Reasoning, Repetition
from phi3kit.corpus.python_docs import PythonDocs
from phi3kit.families import Filter
from phi3kit.records import Document
from phi3kit.testing import contracts

PROSE = (
    "The lamp on the harbour wall turns twice a minute. Ships count the turns, because every lamp on this coast "
    "turns at its own pace, and so they know where they are. If the lamp stands still, they wait for the day."
)


def verdict(filter: Filter, text: str) -> str | None:
    return filter.reject(Document("x", text))


@pytest.mark.parametrize(
    ("filter", "text", "reason"),
    [
        (Length(shortest=3), "two words", "fewer than 3 words"),
        (Length(shortest=1, longest=3), "more words than three", "more than 3 words"),
        (Alphabet(), "1 2 3 4 5 words", "too few words with letters"),
        (Alphabet(), "a #b c # d", "too many # and ..."),
        (Alphabet(), "  \n", "no words"),
        (Repetition(), "the same line of words\n" * 9, "repeated lines"),
        (Repetition(), "ab cd " * 9, "one run of 2 words makes up much of it"),
        (Repetition(), PROSE + " or " + PROSE, "repeated runs of ten words"),
        (Boilerplate(), "Please ENABLE\n JavaScript to go on", "begins with 'enable javascript'"),
        (Boilerplate(phrases=["Nobody reads"]), "this nobody reads", "begins with 'nobody reads'"),
        (Reasoning(), "a list of names " * 20, "explains too little"),
        (Reasoning(), "because", "fewer than 50 words"),
    ],
)
def test_rejections_and_their_reasons(filter: Filter, text: str, reason: str) -> None:
    assert verdict(filter, text) == reason


@pytest.mark.parametrize(
    "filter",
    [Length(shortest=10), Alphabet(), Repetition(), Boilerplate(), Reasoning(shortest=10), Boilerplate(within=5)],
)
def test_prose_that_explains_stays(filter: Filter) -> None:
    assert verdict(filter, PROSE) is None


def test_boilerplate_reads_only_the_beginning() -> None:
    assert verdict(Boilerplate(within=200), f"{PROSE} It was deprecated.") is None


def test_filters_keep_their_laws_on_real_documents() -> None:
    documents = list(PythonDocs(reference=False, source=False).read())
    assert len(documents) > 50
    for filter in (Length, Alphabet, Repetition, Boilerplate, Reasoning):
        contracts.check_filter(filter, documents)
