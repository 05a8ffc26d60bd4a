"""Chats and preferences: told once, scored, without benchmark questions; made documents under rules of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, final

import pytest
from counting_scorer import CountingScorer

from phi3kit.corpus import ConversationFile, JSONLines, Length, Local, PreferenceFile, Preparation
from phi3kit.corpus.engine.store import Store
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.plan import Plan
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.stages.chats import Chats
from phi3kit.corpus.stages.screen import Questions
from phi3kit.families import Synthesizer
from phi3kit.records import Document

QUESTION = "Why does the lamp on the harbour wall turn exactly twice a minute when ships are near?"


def said(name: str, n: int = 40) -> str:
    """Words that nothing else has."""
    letters = sha256(name.encode()).hexdigest().translate(str.maketrans("0123456789", "ghijklmnop")) * 4
    return " ".join(f"{letters[i : i + 5]}" for i in range(n))


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps({"id": str(i), **row}) for i, row in enumerate(rows)))


def ids(folder: Path, part: str) -> set[str]:
    files = (folder / part).glob("*.jsonl")
    return {json.loads(line)["id"] for file in files for line in file.read_text().splitlines()}


def test_what_repeats_a_row_in_other_words_goes(tmp_path: Path) -> None:
    first = said("a")
    write(
        tmp_path / "chats.jsonl",
        [
            {"messages": turns("Tell me.", first)},
            {"messages": turns("Tell me!", first.replace(first.split()[7], "lamp lamp"))},
            {"messages": turns("Tell me.", said("b"))},
            {"messages": turns(QUESTION.upper()[:52], "Ships count the turns.")},
            {"messages": turns("Lift?", "Turn.")},
            {"messages": turns("Lift?", "Turn.")},  # too few words to tell repetition from custom
        ],
    )
    prompt = turns(said("c", 200), said("d"), "And now?")  # long, and shared by pairs that differ
    pair = {"prompt": prompt, "chosen": turns("", said("e"))[1:], "rejected": turns("", said("f"))[1:]}
    write(tmp_path / "pairs.jsonl", [pair, pair | {"chosen": turns("", said("g"))[1:]}, pair])
    write(tmp_path / "bench.jsonl", [{"question": QUESTION}])

    def chats(minhash: MinHash | None, name: str) -> tuple[Path, dict[str, Any]]:
        makers = [ConversationFile("chats.jsonl", holdout=0.5)], [PreferenceFile("pairs.jsonl", holdout=0.5)]
        questions = Questions((tmp_path / "bench.jsonl",))
        stage = Chats([], *makers, str(tmp_path), questions, [CountingScorer("lamp")], minhash)
        done = Store(tmp_path / name, Local(1), Progress(quiet=True)).run(stage)
        return done.folder / "00000", done.counts()[0]

    folder, counts = chats(MinHash(), "once")
    assert counts["repeated"] == {"chat": 1, "preferences": 1}
    assert counts["contaminated"] == {"chat": 1, "preferences": 0}
    assert ids(folder, "chat") == {"0", "2", "4", "5"}
    assert ids(folder, "preferences") == {"0", "1"}
    names = ["chat", "contamination.jsonl", "preferences", "rank.json", "rejected.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names
    told = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [(row["id"], row["kept"], row["part"]) for row in told] == [("1", "0", "chat"), ("2", "0", "preferences")]
    rows = [json.loads(line) for file in (folder / "chat").iterdir() for line in file.read_text().splitlines()]
    assert {row["metadata"]["scores"]["lamp"] for row in rows} == {0}
    folder, counts = chats(None, "all")
    assert counts["repeated"] == {"chat": 0, "preferences": 0}
    assert ids(folder, "chat") == {"0", "1", "2", "4", "5"}
    assert ids(folder, "preferences") == {"0", "1", "2"}


@final
class Echo(Synthesizer):
    """Two texts of each document: one of few words, one of many."""

    def make(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Both, in order."""
        for document in documents:
            for n in (6, 40):
                yield Document(f"echo/{document.id}/{n}", said(f"{document.id} {n}", n), "echo")


@pytest.mark.parametrize("rules", [{"exercise_filters": [Length(shortest=9)]}, {"exercise_profile": "synthetic"}])
def test_exercises_pass_rules_of_their_own(tmp_path: Path, rules: dict[str, Any]) -> None:
    write(tmp_path / "docs.jsonl", [{"text": said(str(i))} for i in range(8)])
    asked = Preparation(
        folder=str(tmp_path), readers=[JSONLines("docs.jsonl")], exercises=[Echo()], vocab_size=300,
        holdout=0.2, executor=Local(1), **rules,
    )  # fmt: skip
    plan = Plan(asked, Store(tmp_path / "stages", Local(1), Progress(quiet=True)))
    assert plan.made is not None
    assert plan.made_sifted is not None
    assert plan.exercises is not None
    (sifted,) = plan.made_sifted.counts()
    assert plan.made.counts()[0]["documents"] == 16
    assert sum(sifted["rejected"].values()) == 8
    (left,) = plan.exercises.counts()
    assert sum(c["read"] for c in left["sources"].values()) == 8
