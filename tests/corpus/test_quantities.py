"""Numbers and operators count where they are what is taught: another number is another text."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from test_near_duplicates import book_pages, copies_of, edited

from phi3kit.corpus.minhash import MinHash, normalised
from phi3kit.corpus.near_duplicates import near_duplicates, write_signatures
from phi3kit.corpus.quantities import pairs_of, quantities_of

PROBLEM = (
    "A farmer has {} sheep and sells {} of them at the market for {} coins each. With the money she buys {} bags of "
    "grain, and she feeds {} bags to the animals that winter. How many coins are left, and how many bags?"
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is 3 + 7? 3+7 = 10.", ["3", "+", "7", "3", "+", "7", "=", "10"]),
        ("25-759=-734", ["25", "-", "759", "=-", "734"]),
        ("well-known and/or state-of-the-art - a bullet\n* star **bold** text", []),
        ("x-1, a/b, 10 - 3, -5 × 3", ["-", "1", "/", "10", "-", "3", "-", "5", "×", "3"]),
        ("if (a <= b && c != d) x**2", ["<=", "&&", "!=", "**", "2"]),
        ("wow! yes, 1,000.5 of them at 12:30", ["1,000.5", "12:30"]),
        ("", []),
    ],
)
def test_numbers_and_operators(text: str, found: list[str]) -> None:
    assert [one.strip() for one in quantities_of(text)] == found


def test_their_order_counts() -> None:
    assert sorted(pairs_of("3 - 7")) != sorted(pairs_of("7 - 3"))
    assert pairs_of("no numbers") == []


def gone(texts: list[str], folder: Path, minhash: MinHash | None = None, web: bool = False) -> list[tuple[int, int]]:
    """(row, of row) of what goes."""
    folder.mkdir()
    minhash = minhash or MinHash()
    write_signatures(folder, texts, minhash, web)
    return [(copy.row, copy.of_row) for copy in near_duplicates([folder], minhash)]


def test_sums_and_word_problems_stay(tmp_path: Path) -> None:
    draw = Random(0)
    sums = sorted({(draw.randint(2, 99), draw.randint(2, 99)) for _ in range(300)})
    texts = [f"What is {a} {sign} {b}? It is {a} {sign} {b}, of course." for a, b in sums for sign in "+-*/"]
    texts += [f"What is {a} plus {b}?\n\n{a} plus {b} is {a + b}." for a, b in sums]
    texts += [PROBLEM.format(*(draw.randint(2, 99) for _ in range(5))) for _ in range(200)]
    assert gone(texts, tmp_path / "numbers") == []
    web = gone(texts, tmp_path / "web", web=True)
    assert len(web) > len(texts) - 20, "as pages of the web they are all the same"
    assert len(gone(texts, tmp_path / "off", MinHash(numbers=False))) == len(web)
    assert gone(texts, tmp_path / "on", MinHash(numbers=True), web=True) == []


def test_one_other_number_makes_another_problem_and_the_same_numbers_a_copy(tmp_path: Path) -> None:
    numbers = [12, 7, 40, 3, 2]
    others = [[*numbers[:i], numbers[i] + 1, *numbers[i + 1 :]] for i in range(5)]
    texts = [PROBLEM.format(*numbers), *(PROBLEM.format(*other) for other in others)]
    told_again = PROBLEM.format(*numbers).replace("the market", "a market").replace("that winter", "this winter")
    assert gone([*texts, told_again], tmp_path / "x") == [(6, 0)]


def test_a_chapter_with_another_page_number_is_a_copy(shared_data: Path, tmp_path: Path) -> None:
    page = book_pages(shared_data)[3]
    words = page.split(" ")
    other = " ".join([*words[:90], "page", "41", *words[90:]])
    assert gone([page, other, f"1869 {page}"], tmp_path / "x") == [(1, 0), (2, 0)]


def test_what_is_like_a_copy_alone_stays(shared_data: Path, tmp_path: Path) -> None:
    """Each text is like the one before it; every second one is like none that stays."""
    words = book_pages(shared_data, 1200)[2].split(" ")
    texts = [" ".join(words[start : start + 500]) for start in (0, 80, 160, 240, 320)]
    assert gone(texts, tmp_path / "x", web=True) == [(1, 0), (3, 2)]
    assert gone(texts[:1] + texts[2:], tmp_path / "y", web=True) == [(2, 1)]


def test_the_same_words_in_other_sentences_are_no_copy(tmp_path: Path) -> None:
    draw = Random(3)
    words = [f"{one}{two}" for one in "abcdefghij" for two in "klmnopqrstuvwxy"] * 2
    texts = [" ".join(draw.sample(words, len(words))) for _ in range(12)]
    texts = [" ".join([*words[:60], text]) for text in texts]  # a beginning that all have: candidates
    assert copies_of(texts, MinHash(), tmp_path / "ours") == []
    assert len(copies_of(texts, MinHash(runs=0.0), tmp_path / "words")) > 1


def test_edited_copies_go_where_numbers_count(shared_data: Path, tmp_path: Path) -> None:
    pages, draw = book_pages(shared_data)[:60], Random(7)
    vocabulary = [word for page in pages for word in page.split()]
    copies = [edited(page, draw.uniform(0.05, 0.15), draw, vocabulary) for page in pages[:30]]
    found = gone([*pages, *copies], tmp_path / "x")
    assert len(found) >= 29
    assert all(row - 60 == of_row for row, of_row in found)


def test_numbers_stay_in_words_where_they_count() -> None:
    assert normalised("It is 3.5 km, or 12", numbers=True) == "it is 3 5 km or 12"
    assert normalised("It is 3.5 km, or 12") == "it is 0 km or 0"
