"""Sources, scores and phases: phase 2 is a stricter subset of phase 1 and synthetic texts, at every step of the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from counting_scorer import CountingScorer

from phi3kit.corpus import Files, JSONLines, Length, Local, Mixture, Preparation, Progress, Query, Source
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.shards import read_columns, read_shard
from phi3kit.errors import UserError

QUIET = Progress(quiet=True)
QUESTION = "Which of the two lamps on the harbour wall turns at half the pace of the other one at night?"


def text(i: int, lamps: int) -> str:
    """Words of its own (digits would be alike to deduplication), and some lamps."""
    letters = sha256(str(i).encode()).hexdigest().translate(str.maketrans("0123456789", "ghijklmnop"))
    words = " ".join(letters[j : j + 6] for j in range(50))
    return f"{words}. " + "lamp " * lamps


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Web pages with 0 to 9 lamps, a book, synthetic texts, and a benchmark."""
    root = tmp_path / "in"
    root.mkdir()
    rows = [{"text": text(i, i % 10)} for i in range(60)]
    rows += [{"text": rows[7]["text"].replace(" ", " pebble ", 1)}]  # nearly the same
    rows += [{"text": text(90, 1) + f" And then he asked: {QUESTION.upper()}"}]
    (root / "web.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "made.jsonl").write_text("\n".join(json.dumps({"text": text(1000 + i, 0)}) for i in range(12)))
    (root / "book.txt").write_text(text(500, 8))
    (root / "bench").mkdir()
    (root / "bench" / "lamps.jsonl").write_text(json.dumps({"question": QUESTION, "id": 1}))
    return root


def sources(**web: Any) -> list[Source]:
    return [
        Source("web", JSONLines("web.jsonl"), filters=[Length(shortest=5)], licence="none", **web),
        Source("book", Files("book.txt")),
        Source("made", JSONLines("made.jsonl"), synthetic=True),
        Source("absent", Files("nowhere"), optional=True),
    ]


def preparation(inputs: Path, **options: Any) -> Preparation:
    given: dict[str, Any] = {
        "folder": str(inputs), "sources": sources(), "scorers": [CountingScorer("lamp")], "vocab_size": 300,
        "near_duplicates": MinHash(), "benchmarks": ["bench"], "holdout": 0.1, "executor": Local(1),
        "phases": [Query("web", least={"lamp": 2}), Query("reasoning", least={"lamp": 5}, synthetic=True)],
    }  # fmt: skip
    return Preparation(**{**given, **options})


def ids_of(out: Path, part: str) -> set[str]:
    return set((out / part / "documents.txt").read_text().splitlines())


def scores_in(out: Path) -> dict[str, float]:
    return {
        row["id"]: row["lamp"]
        for file in sorted((out / "scored").iterdir())
        for row in read_columns(file, ["id", "lamp"])
    }


def test_the_second_phase_is_a_stricter_subset_and_synthetic_texts(inputs: Path, tmp_path: Path) -> None:
    manifest = preparation(inputs).run(tmp_path / "out", QUIET)
    web, reasoning, scores = (
        ids_of(tmp_path / "out", "web"),
        ids_of(tmp_path / "out", "reasoning"),
        scores_in(tmp_path / "out"),
    )
    synthetic = {id for id in scores if id.startswith("made.jsonl")}
    assert len(synthetic) == 12
    assert web == {id for id, score in scores.items() if score >= 2} - synthetic
    assert reasoning == {id for id, score in scores.items() if score >= 5} | synthetic
    assert reasoning - synthetic < web
    assert manifest["left_out"] == {"web": {"lamp: below 2": 12}, "reasoning": {"lamp: below 5": 18}}
    assert manifest["sources"]["made"]["web"] == 0
    assert manifest["sources"]["web"]["licence"] == "none"
    histogram = manifest["scores"]["lamp"]["histogram"]
    assert sum(histogram["documents"]["web"]) == 60


def test_near_duplicates_and_benchmark_questions_go_with_their_reasons(inputs: Path, tmp_path: Path) -> None:
    manifest = preparation(inputs).run(tmp_path / "out", QUIET)
    assert manifest["rejected"] == {
        "near-duplicate: nearly the same text as a document before it": 1,
        "contaminated: lamps": 1,
    }
    (hit,) = map(json.loads, (tmp_path / "out/contamination.jsonl").read_text().splitlines())
    assert (hit["id"], hit["benchmark"], hit["question"], hit["kind"]) == ("web.jsonl:62", "lamps", "1", "question")
    assert hit["matched"] == QUESTION.upper().rstrip("?")
    assert manifest["benchmarks"]["hits"] == {"lamps, question": 1}
    assert [(row["id"], row["kept"]) for row in rejected(tmp_path / "out", "near-duplicate")] == [
        ("web.jsonl:61", "web.jsonl:8"),
    ]


def rejected(out: Path, rule: str) -> list[dict[str, Any]]:
    return [row for row in map(json.loads, (out / "rejected.jsonl").read_text().splitlines()) if row["filter"] == rule]


def test_chats_that_quote_a_benchmark_are_left_out(inputs: Path, tmp_path: Path) -> None:
    from phi3kit.corpus import ConversationFile

    turns = [[QUESTION, "The left one."], *([f"Say {i}.", str(i)] for i in range(30))]
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in turns]
    (inputs / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    manifest = preparation(inputs, conversations=[ConversationFile("chats.jsonl", holdout=0.2)]).run(
        tmp_path / "out", QUIET
    )
    assert sum(manifest["chat"].values()) == 30
    assert manifest["benchmarks"]["hits"] == {"lamps, question": 2}


def test_what_if_says_what_is_left_and_writes_no_tokens(inputs: Path, tmp_path: Path) -> None:
    table = preparation(inputs).what_if(tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()
    first, *rows = table.strip().splitlines()
    assert first.split()[:4] == ["lamp", ">=", "documents", "tokens"]
    left = [int(row.split()[1].replace(",", "")) for row in rows]
    assert left[0] == 73
    assert left == sorted(left, reverse=True)
    manifest = preparation(inputs).run(tmp_path / "out", QUIET)
    total = sum(split["tokens"] for split in manifest["parts"]["web"].values())
    at_two = next(row for row in manifest["scores"]["lamp"]["thresholds"] if row["least"] == 2)
    assert at_two["tokens"] == total


def test_a_mixture_holds_its_shares_and_its_cap(inputs: Path, tmp_path: Path) -> None:
    mixed = Query("web", mixture=Mixture({"web": 0.7, "book": 0.3}, most_epochs=3))
    manifest = preparation(inputs, phases=[mixed], holdout=0.05).run(tmp_path / "out", QUIET)
    epochs = manifest["epochs"]["web"]
    assert epochs["book"] == 3  # all of it, as often as allowed
    assert 0 < epochs["web"] < 1
    ids = ids_of(tmp_path / "out", "web")
    assert not any(id.startswith("made") for id in ids)
    assert 3 <= sum(id.startswith("web") for id in ids) < 50


@pytest.mark.parametrize(
    ("available", "options", "epochs"),
    [
        ({"a": 100, "b": 100}, {"weights": {"a": 1, "b": 1}}, {"a": 1.0, "b": 1.0}),
        ({"a": 100, "b": 50}, {"weights": {"a": 1, "b": 1}}, {"a": 0.5, "b": 1.0}),
        ({"a": 100, "b": 50}, {"weights": {"a": 1, "b": 1}, "most_epochs": 2}, {"a": 1.0, "b": 2.0}),
        ({"a": 100, "b": 10}, {"weights": {"a": 1, "b": 1}, "tokens": 100}, {"a": 0.5, "b": 1.0}),
        ({"a": 100, "c": 10}, {"weights": {"a": 3, "b": 1}}, {"a": 1.0}),
    ],
)
def test_epochs_of_a_mixture(available: dict[str, int], options: dict[str, Any], epochs: dict[str, float]) -> None:
    assert Mixture(**options).epochs(available) == epochs


def test_shards_of_many_ranks_hold_the_same(inputs: Path, tmp_path: Path) -> None:
    preparation(inputs).run(tmp_path / "one", QUIET)
    cut = preparation(inputs, shard_megabytes=0.002)  # some 2 kB
    cut.run(tmp_path / "many", QUIET)
    assert len(list((tmp_path / "many/scored").iterdir())) > 10
    for part in ("web", "reasoning"):
        assert ids_of(tmp_path / "many", part) == ids_of(tmp_path / "one", part)
        chunks = [f.name for f in (tmp_path / "many" / part / "train").glob("*.bin")]
        assert len(chunks) > 1
        counts = [json.loads((tmp_path / o / "manifest.json").read_text())["parts"][part] for o in ("one", "many")]
        assert counts[0] == counts[1]
    texts = [
        {d.id: d.text for file in sorted((tmp_path / o / "scored").iterdir()) for d in read_shard(file)}
        for o in ("one", "many")
    ]
    assert texts[0] == texts[1]


# -------------------------------------------------------------------------------------- refused at once


def refusal(phases: Sequence[Query], **options: Any) -> str:
    with pytest.raises(UserError) as error:
        Preparation(
            **{"sources": sources(), "scorers": [CountingScorer("lamp")], "vocab_size": 300, "phases": phases} | options
        )
    return str(error.value)


def test_a_phase_that_is_laxer_is_refused() -> None:
    web = Query("web", least={"lamp": 2}, most={"lamp": 8}, sources=["web"])
    assert "'more' asks for lamp >= 1, less than 'web' (2)" in refusal([web, Query("more", least={"lamp": 1})])
    assert "'more' asks for lamp <= 9, more than 'web' (8)" in refusal([web, Query("more", most={"lamp": 9})])
    assert "takes the source 'book', which 'web' does not" in refusal([web, Query("more", sources=["book"])])
    assert "is the first and takes synthetic texts" in refusal([Query("web", synthetic=True)])


def test_names_that_do_not_exist_are_refused() -> None:
    assert "asks for 'lanp', which is not scored; did you mean 'lamp'?" in refusal([Query("web", least={"lanp": 1})])
    assert "names no source 'wet'; did you mean 'web'?" in refusal([Query("web", sources=["wet"])])
    assert "two phases are called 'web'" in refusal([Query("web"), Query("web")])
    assert "two sources are called 'absent'" in refusal([Query("web")], sources=[*sources(), *sources()])
    assert "there is no folder 'nowhere'" in refusal([Query("web")], folder="nowhere")
    with pytest.raises(UserError, match="cannot name a folder"):
        Query("../web")
    with pytest.raises(UserError, match="give each source a share above 0"):
        Mixture({"web": 0.0})
