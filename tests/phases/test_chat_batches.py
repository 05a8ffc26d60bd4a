"""Data modules of chats: what is lost is counted and said, one bad row costs that row, a share is held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phi3kit.errors import UserError
from phi3kit.phases import ConversationBatches, PreferenceBatches
from phi3kit.phases.row_source import held_out
from phi3kit.records import Conversation, Message
from phi3kit.testing import tiny

TOKENIZER = tiny.tokenizer()


def chat(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def chats(train: Path, heldout: Path | None = None, **options: Any) -> ConversationBatches:
    return ConversationBatches(TOKENIZER, train, heldout, **{"context": 128, "batch_size": 2, **options})


def learned(data: Any, part: str) -> list[str]:
    """What carries loss, text by text."""
    texts = []
    for row in data.samples(part):
        for one in row:
            ids = [id for id, wanted in zip(one.ids, one.supervised, strict=True) if wanted]
            texts.append(TOKENIZER.decode(ids))
    return texts


def test_a_turn_of_weight_0_carries_no_loss(tmp_path: Path) -> None:
    turns = chat("2+2?", "5")["messages"] + chat("Sure?", "No, 4.")["messages"]
    turns[1]["weight"] = 0
    file = lines(tmp_path / "c.jsonl", {"messages": turns})
    assert learned(chats(file, file), "train") == ["No, 4.<|end|>"]


def test_chats_that_are_too_long_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [chat("word " * 200, f"a{i}") for i in range(8)]
    file = lines(tmp_path / "c.jsonl", chat("2+2?", "4"), *long, chat("count", "one two three " * 60))
    data = chats(file, file)
    for _ in range(2):
        assert len(learned(data, "train")) == 2
    assert data.report["rows"]["train"] == {"rows": 10, "unreadable": 0, "cut": 1, "left_out": 8}
    said = capsys.readouterr().err
    assert said.count("9 of 10 conversations are longer than 128 tokens: 1 cut at the end, 8 left out") == 1


def test_pairs_that_are_too_long_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [{"prompt": "word " * 200, "chosen": "yes", "rejected": f"no{i}"} for i in range(9)]
    file = lines(tmp_path / "p.jsonl", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, *long)
    data = PreferenceBatches(TOKENIZER, file, file, context=128, batch_size=1)
    assert len(data.samples("heldout")) == 1
    assert data.report["rows"]["heldout"] == {"rows": 10, "unreadable": 0, "left_out": 9}
    assert "p.jsonl: 9 of 10 pairs are longer than 128 tokens: left out" in capsys.readouterr().err


def test_one_bad_row_costs_that_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ["{broken", chat("half \ud83d", "4"), chat("no answer", ""), chat("seen", "4", images=["a.png"])]
    file = lines(tmp_path / "c.jsonl", chat("2+2?", "4"), *bad, *(chat(f"{i}?", "4") for i in range(5)))
    data = chats(file, file)
    assert len(learned(data, "train")) == 6
    assert data.report["rows"]["train"] == {"rows": 10, "unreadable": 4, "cut": 0, "left_out": 0}
    said = capsys.readouterr().err
    assert "4 of 10 rows cannot be used and are left out" in said
    assert all(f"c.jsonl:{line}" in said for line in range(2, 6))
    with pytest.raises(UserError, match=r"c\.jsonl:2 is not JSON"):
        chats(file, file, unreadable="stop").samples("train")
    with pytest.raises(UserError, match=r"unreadable is 'drop'; give 'skip' or 'stop'"):
        chats(file, file, unreadable="drop")


def test_a_file_of_which_most_is_bad_stops(tmp_path: Path) -> None:
    file = lines(tmp_path / "c.jsonl", chat("2+2?", "4"), *[{"body": "x"}] * 2)
    with pytest.raises(UserError, match=r"2 of 3 rows cannot be used; the first: .*c\.jsonl:2: unknown shape"):
        chats(file, file).samples("train")


def test_pairs_of_the_same_tokens_are_left_out(tmp_path: Path) -> None:
    pair = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
    file = lines(tmp_path / "p.jsonl", pair, pair, {**pair, "rejected": "4"})
    data = PreferenceBatches(TOKENIZER, file, file, context=128, batch_size=1)
    assert len(data.samples("train")) == 2
    assert data.report["rows"]["train"]["unreadable"] == 1


def test_a_share_is_held_out_where_no_file_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lines(tmp_path / "c.jsonl", *(chat(f"{i}?", f"answer {i}") for i in range(40)))
    data = chats(file, holdout=0.1, seed=3)
    parts = {part: learned(data, part) for part in ("heldout", "train")}
    assert [len(parts["heldout"]), len(parts["train"])] == [4, 36]
    assert len({*parts["heldout"], *parts["train"]}) == 40
    assert "4 of 40 rows are held out (holdout: 0.1, seed 3)" in capsys.readouterr().err.splitlines()[0]
    assert learned(chats(file, holdout=0.1, seed=3), "heldout") == parts["heldout"]
    assert learned(chats(file, holdout=0.1, seed=4), "heldout") != parts["heldout"]
    for share in (0.0, 1.0):
        with pytest.raises(UserError, match="give a share between 0 and 1, or a file as `heldout`"):
            chats(file, holdout=share)
    with pytest.raises(UserError, match=r"has too few different rows \(1\)"):
        chats(lines(tmp_path / "one.jsonl", chat("a", "b"))).samples("train")


def test_what_asks_the_same_is_on_one_side() -> None:
    talk = lambda q, a: Conversation((Message("user", q), Message("assistant", a)), id=f"{q}{a}")  # noqa: E731
    rows = [talk(f"q{i % 20}", f"a{i}") for i in range(60)]
    held, _ = held_out(rows, 0.2, seed=0)
    asked = [{row.messages[0].content for row, is_held in zip(rows, held, strict=True) if is_held is side}
             for side in (True, False)]  # fmt: skip
    assert asked[0].isdisjoint(asked[1])
    assert sum(held) == 12
    more, _ = held_out([*rows, *(talk(f"new{i}", "a") for i in range(6))], 0.2, seed=0)
    assert sum(a != b for a, b in zip(held, more, strict=False)) <= 6


def test_the_rows_own_split_goes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [{}, {"split": "train_sft"}, {"split": "validation"}, {"metadata": {"split": "test"}}, {"split": None}]
    file = lines(tmp_path / "c.jsonl", *(chat(f"{i}?", f"answer {i}", **more) for i, more in enumerate(own)))
    assert sorted(learned(chats(file), "heldout")) == ["answer 2<|end|>", "answer 3<|end|>"]
    assert "2 of 5 rows are held out (their own split says so)" in capsys.readouterr().err


def test_names_of_ones_own(tmp_path: Path) -> None:
    turns = [{"who": "user", "said": "q"}, {"who": "bot", "said": "a"}]
    file = lines(tmp_path / "c.jsonl", *[{"dialogue": turns}] * 3)
    names = {"role_map": {"bot": "assistant"}, "fields": {"messages": "dialogue", "role": "who", "content": "said"}}
    assert learned(chats(file, file, **names), "train") == ["a<|end|>"] * 3
