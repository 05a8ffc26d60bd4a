"""The web's filters: what each rejects and why, and verdicts equal to datatrove's with the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phi3kit import UserError
from phi3kit.corpus import (
    BannedWords,
    BlockedURLs,
    C4Lines,
    C4Paragraphs,
    C4Quality,
    FineWebQuality,
    FineWebWords,
    GopherQuality,
    GopherRepetition,
    GopherWords,
    Language,
    ScoreLimit,
    SourceCode,
)
from phi3kit.corpus.words import for_datatrove
from phi3kit.families import Filter, Splitter
from phi3kit.records import Document
from phi3kit.testing import contracts

PROSE = (
    "The lamp on the harbour wall turns twice a minute. Ships count the turns, because every lamp on this coast "
    "turns at its own pace, and so they know where they are. If the lamp stands still, they wait for the day. "
    "Nobody has to be told, for they have all waited with it once. That was in spring."
)
TWENTY = "\n".join(f"Menu entry of number {i}" for i in range(20))


def verdict(filter: Filter, text: str, **metadata: Any) -> str | None:
    return filter.reject(Document("x", text, metadata=metadata))


@pytest.mark.parametrize(
    ("filter", "text", "reason"),
    [
        (GopherQuality(), "too short", "fewer than 50 words"),
        (GopherQuality(longest=20), PROSE, "more than 20 words"),
        (GopherQuality(), "a b " * 50, "short words"),
        (GopherQuality(), "incomprehensibilities " * 50, "long words"),
        (GopherQuality(), "#topic of the day " * 50, "too many #"),
        (GopherQuality(), "and then again that ... " * 50, "too many ellipses"),
        (GopherQuality(), "• the thing to have\n" * 50, "lines with bullets"),
        (
            GopherQuality(),
            "read more of the news of the day with us today and be happy…\n" * 10,
            "lines end in ellipses",
        ),
        (GopherQuality(), "the and 1234 5678 " * 50, "too few words with letters"),
        (GopherQuality(), "Haus und Garten " * 50, "too few stop words"),
        (GopherRepetition(), "", "no text"),
        (GopherRepetition(), "the same\n\n" * 9 + PROSE, "repeated paragraphs"),
        (GopherRepetition(), "the same\n" * 9 + PROSE, "repeated lines"),
        (GopherRepetition(), "ab cd " * 9, "one run of 2 words makes up much of it"),
        (GopherRepetition(), PROSE + " or " + PROSE, "repeated runs of 5 words"),
        (C4Quality(), "Lorem ipsum dolor sit amet.", "lorem ipsum"),
        (C4Quality(), "A line with a { in it.", "curly bracket"),
        (C4Quality(), "One sentence only.\nand a line without an end", "fewer than 5 sentences"),
        (C4Paragraphs(), "short\n" * 9, "fewer than 3 paragraphs"),
        (FineWebQuality(), " \n ", "no text"),
        (FineWebQuality(), TWENTY, "lines without an end"),
        (FineWebQuality(), "So it is.\n" + "Yes.\n" * 9, "short lines"),
        (FineWebQuality(), PROSE + "\n" + PROSE, "repeated lines"),
        (FineWebQuality(most_short_lines=1), "\n".join(f"N{i}." for i in range(9)), "a list"),
        (Language(), "Die Lampe auf der Hafenmauer dreht sich zweimal in der Minute, Tag und Nacht.", "language de"),
        (ScoreLimit("toxicity"), "x", "no score for toxicity"),
        (SourceCode(), "x = 1\n" + "y" * 1001, "a line longer than 1000 characters"),
        (SourceCode(), ("y" * 200 + "\n") * 9, "lines longer than 100 characters on average"),
        (SourceCode(), "{[(=)]};\n" * 9, "few letters and digits"),
    ],
)
def test_rejections_and_their_reasons(filter: Filter, text: str, reason: str) -> None:
    assert verdict(filter, text) == reason


@pytest.mark.parametrize(
    "filter",
    [
        *(GopherQuality(), GopherQuality(GopherWords()), GopherRepetition(), C4Quality(), FineWebQuality()),
        *(C4Paragraphs(least=1), Language(), SourceCode(longest_mean=1000), BlockedURLs()),
    ],
)
def test_prose_stays(filter: Filter) -> None:
    assert verdict(filter, PROSE) is None


def test_score_limits() -> None:
    assert verdict(ScoreLimit("toxicity", most=0.2), "x", scores={"toxicity": 0.3}) == "toxicity above 0.2"
    assert verdict(ScoreLimit("educational", most=None, least=3), "x", scores={"educational": 2}) == (
        "educational below 3"
    )
    assert verdict(ScoreLimit("toxicity", most=0.2, least=0), "x", scores={"toxicity": 0.1}) is None
    with pytest.raises(UserError, match="neither `most` nor `least`"):
        ScoreLimit("toxicity", most=None)


def test_languages() -> None:
    german = "Die Lampe auf der Hafenmauer dreht sich zweimal in der Minute, Tag und Nacht."
    assert verdict(Language(["en", "de"]), german) is None
    assert verdict(Language(), "?") == "language uncertain"
    with pytest.raises(UserError, match="no language has the code 'english'; py3langid knows ace, af"):
        Language(["english"])


@pytest.fixture
def lists(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, *lines: str) -> str:
        (tmp_path / name).write_text("".join(f"{line}\n" for line in ("# a comment", *lines)))
        return str(tmp_path / name)

    return write


def test_blocked_urls(lists: Callable[..., str]) -> None:
    filter = BlockedURLs(
        domains=[lists("domains", "bad.example.org", "worse.com")],
        urls=[lists("urls", "https://good.org/but/this")],
        words=[lists("words", "casino")],
        soft_words=[lists("soft", "free", "win")],
        parts=[lists("parts", "xxpills")],
    )
    reasons = {
        "https://bad.example.org/page": "blocked domain",
        "http://www.worse.com:80/": "blocked domain",
        "worse.com/page": "blocked domain",
        "https://good.org/but/this": "blocked address",
        "https://good.org/Casino-night": "blocked word in the address",
        "https://good.org/win/free": "blocked words in the address",
        "https://good.org/axx-pills": "blocked letters in the address",
        "https://example.org/": None,
        "https://notworse.com/": None,
        "https://good.org/free/casinos": None,
        "": None,
    }
    assert {url: verdict(filter, "text", url=url) for url in reasons} == reasons
    contracts.check_filter(lambda: filter, [Document("u", "text", metadata={"url": "https://worse.com"})])
    with pytest.raises(UserError, match=r"the block list none.txt is no file"):
        BlockedURLs(domains=["none.txt"])


@pytest.mark.slow
def test_bundled_block_list_is_read_without_a_network() -> None:
    """Loading 4.6 million domains takes seconds."""
    import tarfile
    from importlib import resources

    from phi3kit.corpus.filters.urls import BUNDLED

    with tarfile.open(str(resources.files("datatrove") / "assets" / BUNDLED)) as tar:
        stream = tar.extractfile("domains")
        assert stream is not None
        domains = [stream.readline().decode().strip() for _ in range(50)]
    filter = BlockedURLs(bundled=True)
    assert [verdict(filter, "x", url=f"https://www.{d}/") for d in domains] == ["blocked domain"] * 50
    assert verdict(filter, "x", url="https://en.wikipedia.org/wiki/Lamp") is None


def test_banned_words(lists: Callable[..., str]) -> None:
    path = lists("banned", "rude", "very bad", "猫")
    assert verdict(BannedWords(path), "This is RUDE.") == "banned words"
    assert verdict(BannedWords(path), "very bad") == "banned words"
    assert verdict(BannedWords(path), "crude, not very  bad") is None
    assert verdict(BannedWords(path, most=1), "rude") is None
    assert verdict(BannedWords(path, most=1), "rude rude") == "banned words"
    assert verdict(BannedWords(path), "黒猫が") is None
    assert verdict(BannedWords(path, whole_words=False), "黒猫が") == "banned words"
    with pytest.raises(UserError, match="no file; give a text file of one word per line"):
        BannedWords("none.txt")
    with pytest.raises(UserError, match="lists no banned words"):
        verdict(BannedWords(lists("empty")), "x")


def test_c4_lines_keeps_sentences_and_counts_the_others() -> None:
    page = Document(
        "p",
        "  A sentence that stays.[1] \nmenu\nNo way.\nPlease enable JavaScript to go on.\n"
        "Read our privacy policy now.\n" + "x" * 1001 + " is too long.\nAnother that stays?",
        "web",
    )
    made = C4Lines().clean(page)
    assert made.text == "A sentence that stays.\nAnother that stays?"
    assert made.metadata["cleaned"] == {
        "citations": 1,
        "lines without an end": 1,
        "lines of few words": 1,
        "lines on JavaScript": 1,
        "lines on policies": 1,
        "lines with a word too long": 1,
    }
    rejected = Document("p", "menu\nLorem ipsum dolor sit.")
    assert C4Lines().clean(rejected) is rejected
    assert "menu of the day" in C4Lines(terminal_punctuation=False).clean(Document("p", "menu of the day \n")).text


def stock(words: Splitter) -> list[tuple[Filter, Any]]:
    """Ours and datatrove's, with the same words."""
    from datatrove.pipeline.filters import (
        C4ParagraphFilter,
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    language = for_datatrove(words)
    sentences = for_datatrove(FineWebWords())
    return [
        (GopherRepetition(words), GopherRepetitionFilter(language=language)),
        (GopherQuality(words), GopherQualityFilter(language=language)),
        (C4Quality(), C4QualityFilter(language=sentences)),
        (
            C4Quality(terminal_punctuation=False),
            C4QualityFilter(filter_no_terminal_punct=False, language=sentences),
        ),
        (C4Paragraphs(), C4ParagraphFilter()),
        (FineWebQuality(words), FineWebQualityFilter(language=language)),
    ]


def real_texts(shared_data: Path) -> list[str]:
    files = ["web/c4_demo.jsonl", "web/quality_labels/dclm_agreement_data.jsonl"]
    texts = [json.loads(line)["text"] for name in files for line in (shared_data / name).read_text().splitlines()]
    problems = (shared_data / "reasoning/gsm8k_train.jsonl").read_text().splitlines()[:100]
    texts += [json.loads(line)["answer"] for line in problems]
    texts += [path.read_text() for path in sorted((shared_data / "edu/openstax_college_physics").glob("*.md"))[:4]]
    return texts


@pytest.mark.parametrize("words", [FineWebWords(), GopherWords()], ids=lambda words: words.name)
def test_verdicts_are_datatroves_on_real_documents(shared_data: Path, words: Splitter) -> None:
    from datatrove.data import Document as TheirDocument

    texts = real_texts(shared_data)
    assert len(texts) == 585
    for ours, theirs in stock(words):
        differ, rejected = [], 0
        for i, text in enumerate(texts):
            their = TheirDocument(text, str(i))
            kept = theirs.filter(their) is True
            rejected += not kept
            if kept != (verdict(ours, text) is None):
                differ.append(i)
            elif kept and isinstance(ours, C4Quality):
                assert C4Lines(*ours.rules).clean(Document("x", text)).text == their.text
        assert not differ, f"{type(ours).__name__}: {differ}"
        assert 30 < rejected < 500, "the documents tell verdicts apart"


def test_banned_words_equal_datatroves(shared_data: Path, lists: Callable[..., str]) -> None:
    import re

    words = ["sale", "free shipping", "win", "c++"]
    filter = BannedWords(lists("banned", *words))
    theirs = re.compile(r"(?:\W|^)({})(?:\W|$)".format("|".join(map(re.escape, words))))  # what their code compiles
    verdicts = [
        (verdict(filter, text) is None, theirs.search(text.lower()) is None) for text in real_texts(shared_data)
    ]
    assert all(ours == their for ours, their in verdicts)
    assert 10 < sum(ours for ours, _ in verdicts) < len(verdicts) - 10
