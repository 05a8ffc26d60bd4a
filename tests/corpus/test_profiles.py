"""Profiles: web rules throw junk out, and textbooks and maths stay where they are curated."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import final

import pytest

import phi3kit
from phi3kit import UserError
from phi3kit.corpus import GopherWords, Markdown
from phi3kit.corpus.profiles import PROFILES, judge, profile
from phi3kit.families import Cleaner
from phi3kit.records import Document
from phi3kit.testing import contracts


def kept(name: str, texts: Iterable[str]) -> tuple[int, int]:
    steps, texts = profile(name), list(texts)
    return sum(judge(steps, Document(str(i), text))[1] is None for i, text in enumerate(texts)), len(texts)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def labelled(shared_data: Path, label: int) -> list[str]:
    labels = rows(shared_data / "web/quality_labels/dclm_agreement_data.jsonl")
    return [row["text"] for row in labels if row["label"] == label]


def physics(shared_data: Path) -> list[str]:
    return [path.read_text() for path in sorted((shared_data / "edu/openstax_college_physics").glob("*.md"))]


def problems(shared_data: Path) -> list[str]:
    return [f"{row['question']}\n{row['answer']}" for row in rows(shared_data / "reasoning/gsm8k_train.jsonl")]


def test_web_rejects_junk_and_keeps_what_people_called_good(shared_data: Path) -> None:
    """Of 152 good and 129 junk pages (three annotators agreed on each)."""
    assert kept("web", labelled(shared_data, 1)) == (127, 152)
    assert kept("web", labelled(shared_data, 0)) == (37, 129)


def test_web_rules_reject_textbooks_and_problems_and_curated_keeps_them(shared_data: Path) -> None:
    sections, solved = physics(shared_data), problems(shared_data)
    extracted = [Markdown().extract(text.encode(), "section.md") for text in sections]
    assert kept("web", sections)[0] == 0
    assert kept("web", extracted)[0] < 6  # four introductions, which have few formulas
    assert kept("web", solved[:300])[0] < 10
    assert kept("curated", sections) == kept("curated", extracted) == (38, 38)
    n, of = kept("curated", solved[:2000])
    assert n == of == 2000


@pytest.mark.slow
def test_curated_keeps_every_problem_of_gsm8k(shared_data: Path) -> None:
    n, of = kept("curated", problems(shared_data))
    assert of == 7473
    assert n >= 0.999 * of


@pytest.mark.parametrize("text", ["buy now " * 90, "0 1 2 3 4 5 6 7 8 9\n" * 40, "too short", "same line here\n" * 40])
def test_curated_rejects_what_is_broken(text: str) -> None:
    assert judge(profile("curated"), Document("x", text))[1] is not None


def test_code_keeps_code() -> None:
    files = [path.read_text() for path in sorted(Path(phi3kit.__file__).parent.rglob("*.py"))]
    n, of = kept("code", files)
    assert n >= 0.97 * of > 100
    minified = "var a=1;" * 400
    assert judge(profile("code"), Document("x", minified))[1] == ("SourceCode", "a line longer than 1000 characters")


def test_synthetic_rejects_talk_about_itself_and_loops() -> None:
    steps = profile("synthetic")
    refusal = "I'm sorry, but I can't help with this. " + "Let us talk about another subject instead, please. " * 3
    assert judge(steps, Document("x", refusal))[1] == ("Boilerplate", 'begins with "i\'m sorry, but i can"')
    loop = "The answer is four, because two and two make four. " * 30
    assert judge(steps, Document("x", loop))[1] == ("Repetition", "one run of 3 words makes up much of it")


def test_the_text_judged_last_is_the_cleaned_one() -> None:
    text = (
        "The lamp on the harbour wall turns twice a minute. Ships count the turns, because every lamp on this coast "
        "has its own pace, and so they know where they are. If it stands still, they wait for the day. Nobody has to "
        "be told, for they have all waited with it once. That was in spring."
    )
    made, verdict = judge(
        profile("web"), Document("x", f"{text} Mail ada@uni-x.org now.\nRead our cookie policy here.")
    )
    assert verdict is None
    assert made.text == f"{text} Mail [email] now."
    assert made.metadata["cleaned"] == {"lines on policies": 1, "email masked": 1}


def test_every_profile_masks_and_takes_its_words_from_outside() -> None:
    assert set(PROFILES) == {"web", "curated", "code", "synthetic"}
    for name in PROFILES:
        assert isinstance(profile(name)[-1], Cleaner)
    names = {step.words.name for step in profile("web", GopherWords()) if hasattr(step, "words")}
    assert names == {GopherWords().name}
    with pytest.raises(UserError, match="no profile is called 'webs'; did you mean 'web'"):
        profile("webs")


@final
class Renames(Cleaner):
    def clean(self, document: Document) -> Document:
        return Document("other", document.text, document.source, document.metadata)


@final
class Silent(Cleaner):
    def clean(self, document: Document) -> Document:
        return Document(document.id, document.text.upper(), document.source, document.metadata)


@final
class Scribbles(Cleaner):
    def clean(self, document: Document) -> Document:
        document.metadata["seen"] = True
        return document


@pytest.mark.parametrize(
    ("cleaner", "law"), [(Renames, "keeps id"), (Silent, "counts in metadata"), (Scribbles, "leaves the document")]
)
def test_a_lawless_cleaner_is_noticed(cleaner: type, law: str) -> None:
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(cleaner)
