"""MinHash: datatrove's signatures exactly; edited copies are found, originals stay; nothing depends on memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy
import pytest

from phi3kit import UserError
from phi3kit.corpus import FineWebWords
from phi3kit.corpus.minhash import MinHash, normalised
from phi3kit.corpus.near_duplicates import Copy, near_duplicates, write_signatures
from phi3kit.corpus.sketches import shared, sketch_of
from phi3kit.corpus.words import for_datatrove


def web_pages(shared_data: Path) -> list[str]:
    files = ["web/c4_demo.jsonl", "web/quality_labels/dclm_agreement_data.jsonl"]
    return [json.loads(line)["text"] for name in files for line in (shared_data / name).read_text().splitlines()]


def book_pages(shared_data: Path, n_words: int = 400) -> list[str]:
    names = ["edu/darwin_origin_of_species.md", "long_docs/war_and_peace.md", "long_docs/twenty_thousand_leagues.md"]
    words = [(shared_data / name).read_text().split(" ") for name in names]
    return [" ".join(book[i : i + n_words]) for book in words for i in range(0, len(book) - n_words, n_words)]


def edited(text: str, share: float, random: Random, vocabulary: Sequence[str]) -> str:
    """A copy in which a share of the words, here and there, was replaced, left out, or had another put before it."""
    made = []
    for word in text.split(" "):
        if random.random() >= share:
            made.append(word)
        else:
            made += random.choice([[random.choice(vocabulary)], [], [random.choice(vocabulary), word]])
    return " ".join(made)


def copies_of(texts: Sequence[str], minhash: MinHash, folder: Path, shards: int = 3, **options: int) -> list[Copy]:
    folders = [folder / str(i) for i in range(shards)]
    for i, shard in enumerate(folders):
        shard.mkdir(parents=True)
        cut = texts[len(texts) * i // shards : len(texts) * (i + 1) // shards]
        assert write_signatures(shard, cut, minhash) == len(cut)
    return near_duplicates(folders, minhash, **options)


def numbers(copies: Sequence[Copy], n: int, shards: int = 3) -> dict[int, int]:
    """copy -> original, counted through all shards."""
    return {n * c.shard // shards + c.row: n * c.of_shard // shards + c.of_row for c in copies}


def test_signatures_are_datatroves(shared_data: Path, tmp_path: Path) -> None:
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    theirs = MinhashDedupSignature(str(tmp_path), language=for_datatrove(FineWebWords()))
    texts = [*web_pages(shared_data)[:120], "Crème brûlée № 5 – ½ Ünïcödé, x²! 日本語の文章 ٣٫٥ tail of it"]
    for text in texts:
        bands = MinHash().signature(text).bands_BH
        assert bands is not None
        assert bands.tolist() == theirs.get_signature(theirs.get_shingles(text))


def test_texts_are_normalised_as_datatrove_does(shared_data: Path) -> None:
    from datatrove.utils.text import simplify_text

    mgsm = [path.read_text() for path in sorted((shared_data / "multilingual/mgsm").glob("*.tsv"))]
    assert len(mgsm) > 5
    for text in [*mgsm, "Ça va? 3.50 € – a_b\u00a0c", " \t\n", "E\u0301té 1,000.5"]:
        assert normalised(text) == simplify_text(text)


def test_short_texts_have_no_bands_and_are_nobodys_copies(tmp_path: Path) -> None:
    assert MinHash().signature("only four words here").bands_BH is None
    assert copies_of(["four words", "four words", "", "", "x", "y"], MinHash(), tmp_path) == []


def test_the_share_of_words_is_estimated() -> None:
    random = Random(0)
    words = [f"w{random.randrange(400)}" for _ in range(800)]
    for share in (0.0, 0.1, 0.3, 0.6):
        other = [f"x{i}" if i < share * 800 else word for i, word in enumerate(words)]
        assert shared(sketch_of(words), sketch_of(other)) == pytest.approx(1 - share, abs=0.06)
    assert shared(sketch_of(["a", "a", "b"]), sketch_of(["a", "b", "b"])) == pytest.approx(2 / 3)


def recall(texts: list[str], n_copies: int, folder: Path, minhash: MinHash) -> tuple[int, int]:
    """(copies removed, originals lost) with copies put at the end."""
    random = Random(7)
    vocabulary = [word for text in texts for word in text.split()]
    long = [i for i, text in enumerate(texts) if len(text.split()) >= 50]
    chosen = random.sample(long, n_copies)
    injected = [edited(texts[i], random.uniform(0.05, 0.2), random, vocabulary) for i in chosen]
    found = numbers(copies_of([*texts, *injected], minhash, folder), len(texts) + n_copies)
    assert all(found[len(texts) + k] == i for k, i in enumerate(chosen) if len(texts) + k in found)
    return sum(i >= len(texts) for i in found), sum(i < len(texts) for i in found)


def test_edited_copies_are_removed_and_originals_stay(shared_data: Path, tmp_path: Path) -> None:
    """5 to 20 % of the words edited, here and there."""
    texts = [*web_pages(shared_data)[:300], *book_pages(shared_data)[:100]]
    assert recall(texts, 40, tmp_path / "ours", MinHash()) == (40, 0)
    alone, _ = recall(texts, 40, tmp_path / "bands", MinHash(edited=None))
    assert alone < 10, "wide bands alone do not find them"


@pytest.mark.slow
def test_200_edited_copies_among_2000_documents(shared_data: Path, tmp_path: Path) -> None:
    texts = [*web_pages(shared_data), *book_pages(shared_data)][:2000]
    assert len(texts) == 2000
    removed, lost = recall(texts, 200, tmp_path, MinHash())
    assert removed >= 190
    assert lost == 0


def test_bands_find_copies_with_an_edit_or_two(shared_data: Path, tmp_path: Path) -> None:
    texts = web_pages(shared_data)[:60]
    long = [text for text in texts if len(text.split()) > 150]
    copies = [text.replace(" and ", " AND, ") + " Posted by admin." for text in long]
    found = numbers(copies_of([*texts, *copies], MinHash(edited=None), tmp_path), len(texts) + len(copies))
    assert len(long) > 30
    assert set(found) == set(range(len(texts), len(texts) + len(copies)))


def test_the_first_of_a_group_stays_whatever_the_shards(shared_data: Path, tmp_path: Path) -> None:
    a, b = web_pages(shared_data)[:2]
    texts = [a, b, f"{a} End.", a, f"{b} End.", b]
    wanted = {2: 0, 3: 0, 4: 1, 5: 1}
    for shards in (1, 2, 3, 6):
        found = numbers(copies_of(texts, MinHash(), tmp_path / str(shards), shards), len(texts), shards)
        assert found == wanted


def test_ranges_of_keys_change_nothing(shared_data: Path, tmp_path: Path) -> None:
    texts = [*web_pages(shared_data)[:80], *web_pages(shared_data)[20:60]]
    whole = copies_of(texts, MinHash(), tmp_path / "whole")
    assert copies_of(texts, MinHash(), tmp_path / "ranges", at_once=7) == whole
    assert len(whole) == 40


def test_broken_signatures_are_named(tmp_path: Path) -> None:
    minhash = MinHash()
    write_signatures(tmp_path, ["one two three four five six"] * 3, minhash)
    with pytest.raises(UserError, match="have 70 bands, not 14; make them again"):
        near_duplicates([tmp_path], MinHash(edited=None))
    whole = (tmp_path / "keys.npy").read_bytes()
    (tmp_path / "keys.npy").write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"the signatures in .* are not whole"):
        near_duplicates([tmp_path], minhash)


def test_empty_shards(tmp_path: Path) -> None:
    texts = ["one two three four five six seven", "another text of more than five words"]
    assert copies_of(texts, MinHash(), tmp_path / "a", shards=5) == []
    assert copies_of([], MinHash(), tmp_path / "b") == []
    assert near_duplicates([], MinHash()) == []
    again = copies_of([texts[0], *texts], MinHash(), tmp_path / "c", shards=7)
    assert numbers(again, 3, 7) == {1: 0}


def test_signatures_do_not_depend_on_the_process() -> None:
    """Written down: they are compared across machines and versions."""
    signature = MinHash().signature("The lamp on the harbour wall turns twice a minute, and ships count the turns.")
    assert signature.bands_BH is not None
    assert signature.bands_BH.shape == (14, 8)
    assert signature.bands_BH.dtype == numpy.uint64
    assert signature.sketch[:2].tolist() == [256608892, 468741424]
