"""What a word is: the splitters, sentences, and datatrove's view of them."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import final

import pytest

from phi3kit.corpus import FineWebWords, GopherWords
from phi3kit.corpus.words import count_sentences, for_datatrove, sentence_spans, words_of
from phi3kit.families import Splitter
from phi3kit.testing import contracts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, Mr. Fox!", "Do n't stop , Mr. Fox !"),
        ("It's 10km (or 3.5 miles) from the U.S. border…", "It 's 10 km ( or 3.5 miles ) from the U.S. border …"),
        ("well-known rock'n'roll", "well - known rock'n'roll"),
        ("I cannot mail a@b.org... see https://x.org/a?b=1.", "I can not mail a@b.org ... see https://x.org/a?b=1 ."),
        ("1,000 at 10:30, -5 and B&B", "1,000 at 10:30 , -5 and B&B"),
        ("“Quoted,” she said—twice", "“ Quoted , ” she said — twice"),
        ("日本語。 two", "日 本 語 。 two"),
    ],
)
def test_fineweb_words(text: str, words: str) -> None:
    assert FineWebWords().split(text) == words.split()


def test_gopher_words_are_between_white_space() -> None:
    assert GopherWords().split(" Don't\nstop, Mr.\tFox! ") == ["Don't", "stop,", "Mr.", "Fox!"]


@pytest.mark.parametrize("piece", ["a-", "1.", "x", "www.", "'", "n't", "a@", "-", "3,", "é’"])
def test_long_chunks_take_time_in_proportion(piece: str) -> None:
    """Minified code and tables come as one chunk, however long."""
    text = piece * 100_000
    began = time.process_time()
    assert "".join(FineWebWords().split(text)) == text
    assert count_sentences(text, 10**9) >= 1
    assert time.process_time() - began < 5


def test_names_differ() -> None:
    assert FineWebWords().name != GopherWords().name


def test_words_are_split_once_for_a_chain_of_filters() -> None:
    calls = []

    @final
    class Counting(Splitter):
        name = "counting"

        def split(self, text: str) -> list[str]:
            calls.append(text)
            return text.split()

    texts = ["one two", "one two", "".join(["one", " two"]), "three"]
    found = [words_of(text, splitter) for text in texts for splitter in (Counting(), Counting())]
    assert calls == ["one two", "three"]
    assert (found[0], found[-1]) == (["one", "two"], ["three"])
    assert words_of("three", GopherWords()) == ["three"]
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("", 0),
        ("no end", 1),
        ("One. Two! Three?", 3),
        ('He said "Go." Then he went.', 2),
        ("Mr. Fox met Dr. Brown at 3.5 km.", 1),
        ("Really?! Yes... no.", 2),
        ("吾輩は猫である。 名前はまだ無い。", 2),
    ],
)
def test_sentences(text: str, n: int) -> None:
    assert count_sentences(text, 100) == n
    assert len(sentence_spans(text)) == n
    assert count_sentences(text, 1) == min(n, 1)


def test_spans_cover_the_words() -> None:
    text = "  One here. (Two there!) And three"
    assert [text[start:end] for start, end in sentence_spans(text)] == ["  One here. (", "Two there!)", "And three"]
    assert for_datatrove(GopherWords()).word_tokenize(text) == text.split()
    assert for_datatrove(GopherWords()).sent_tokenize(text)[1] == "Two there!)"


def test_words_agree_with_spacy_on_web_pages(shared_data: Path) -> None:
    """Measured with spaCy 3.8: F1 0.988 over 481 pages. spaCy is heavy; without it this skips."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed; it is what FineWebWords is compared with")
    from collections import Counter

    rows = map(json.loads, (shared_data / "web/c4_demo.jsonl").read_text().splitlines()[:60])
    tokenizer, both, sizes = spacy.blank("en"), 0, 0
    for text in (row["text"] for row in rows):
        ours = Counter(FineWebWords().split(text))
        theirs = Counter(token.text.strip() for token in tokenizer(text) if token.text.strip())
        both, sizes = both + (ours & theirs).total(), sizes + ours.total() + theirs.total()
    assert 2 * both / sizes > 0.98


@final
class Forgets(Splitter):
    name = "forgets"

    def split(self, text: str) -> list[str]:
        return [word.lower() for word in text.split()]


@final
class Counts(Splitter):
    name = "counts"
    seen = 0

    def split(self, text: str) -> list[str]:
        Counts.seen += 1
        return text.split()[Counts.seen % 2 :]


@pytest.mark.parametrize(("splitter", "law"), [(Forgets, "words stand in the text"), (Counts, "pure")])
def test_a_lawless_splitter_is_noticed(splitter: type, law: str) -> None:
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(splitter, partial(splitter))
