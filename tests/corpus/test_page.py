"""The page: it says what the manifest says, shows texts of every kind, and lets none of them do anything."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from counting_scorer import CountingScorer

from phi3kit.corpus import JSONLines, Length, Local, Preparation, Progress, Query
from phi3kit.corpus.samples import Samples
from phi3kit.records import Document

SCRIPT = "<script>alert('lamp')</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a corpus with a text that would be a script."""
    folder = tmp_path_factory.mktemp("page")
    rows = [{"text": f"{SCRIPT} stone {i} " + "lamp " * i} for i in range(30)]
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Preparation(
        folder=str(folder), readers=[JSONLines("docs.jsonl")], filters=[Length(shortest=10)], vocab_size=300,
        scorers=[CountingScorer("lamp")], phases=[Query("web"), Query("reasoning", least={"lamp": 20})], holdout=0.2,
        executor=Local(1),
    ).run(folder / "out", Progress(quiet=True))  # fmt: skip
    return (folder / "out/page.html").read_text()


def test_it_says_what_the_manifest_says(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page.split("</style>")[1])
    text = " ".join(text.split())
    assert "23 of 30 documents" in text
    assert "Length: fewer than 10 words 7 100.0 %" in text
    assert "left out: 13 × lamp: below 20" in text
    assert "What each threshold would leave" in text
    for kind in (
        "kept for web",
        "rejected by Length",
        "just above 20, the limit of lamp in reasoning",
        "just below 20",
    ):
        assert kind in text, kind
    above = text.split("just above 20, the limit")[1]
    assert above.index("lamp 20") < above.index("lamp 21")  # the nearest first


def test_texts_are_only_texts(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_startendtag(self, tag: str, attrs: object) -> None: ...

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Tags().feed(page)
    assert not opened


def test_samples_are_the_same_whatever_the_ranks(tmp_path: Path) -> None:
    documents = [Document(f"d{i}", f"text {i}") for i in range(50)]
    for name, of in (("all", documents), ("a", documents[::2]), ("b", documents[1::2])):
        samples = Samples()
        for document in of:
            samples.add("kept", document)
            samples.add("near", document, distance=abs(int(document.id[1:]) - 20))
        samples.save(tmp_path / name)
    merged = Samples.merge([tmp_path / "a", tmp_path / "b"])
    assert merged == Samples.merge([tmp_path / "all"])
    assert {sample["id"] for sample in merged["near"]} <= {"d18", "d19", "d20", "d21", "d22"}
    assert merged["near"][0]["id"] == "d20"
