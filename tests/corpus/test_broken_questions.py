"""A question that a page's end or HTML's tags break is found; what merely begins alike is not."""

from __future__ import annotations

from random import Random

import pytest

from phi3kit.corpus.benchmark_files import Question
from phi3kit.corpus.decontamination import Benchmarks
from phi3kit.corpus.tags import without_tags

QUESTION = (
    "Which harbour lamp turns twice a minute while the ships below count every turn of it and write the number down?"
)
PAGE = "The old town lies between two hills, and its market is held each Saturday from dawn until noon. "
INDEX = Benchmarks([Question("lamps", "1", QUESTION)])
WORDS = QUESTION.split()


@pytest.mark.parametrize(
    "head", ["\n\n12\n\n", " 7 ", "\n\n137 A History of Lamps and Lighthouses\n\n", "\n* * *\nChapter 4\n"]
)
@pytest.mark.parametrize("at", [4, 6, 9, 13, 18])
def test_a_page_number_or_a_running_head_within(head: str, at: int) -> None:
    text = PAGE + " ".join(WORDS[:at]) + head + " ".join(WORDS[at:]) + " " + PAGE
    (hit,) = INDEX.leaks(text)
    assert hit.share == 1
    assert hit.matched == " ".join(WORDS[:at]) + head + " ".join(WORDS[at:]).rstrip("?")


def test_several_breaks_and_a_page_that_goes_on_with_the_same_letter() -> None:
    text = f"{PAGE}{' '.join(WORDS[:5])} 3 {' '.join(WORDS[5:9])} tale 4 {' '.join(WORDS[9:])}"
    assert INDEX.leaks(text)


def test_a_long_way_between_is_no_gap() -> None:
    assert not INDEX.leaks(" ".join(WORDS[:8]) + f" {PAGE * 2} " + " ".join(WORDS[14:]))
    assert not INDEX.leaks(" ".join(WORDS[:8]) + f" {PAGE}")


def test_tags_are_breaks() -> None:
    draw = Random(0)
    tags = ["<b>", "</b>", "<br/>", '<a href="x?a=1&amp;b=2" class=y>', "&nbsp;", "</span>", "&#8212;"]
    text = "<p>" + "".join(f"{word} {draw.choice(tags)}" for word in WORDS) + "</p>"
    assert INDEX.leaks(PAGE + text + PAGE)
    tagged = Benchmarks([Question("lamps", "1", "".join(f"<b>{word}</b> " for word in WORDS))])
    assert tagged.leaks(QUESTION)
    assert tagged.leaks(text)


@pytest.mark.parametrize("text", ["if a <b and c> d", "vector<int> of x", "x < y > z", "AT&T; R&D", "no markup"])
def test_what_is_no_tag_stays(text: str) -> None:
    assert without_tags(text) == text


def test_places_stay() -> None:
    assert without_tags("a<b>c&amp;d") == "a\n\n\nc\n\n\n\n\nd"
