"""Likelihoods, bits per byte and answers, against computations that share no code with them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from phi3kit import UserError
from phi3kit.corpus import JSONLines
from phi3kit.evaluation.held_out import HeldOutText, bits
from phi3kit.evaluation.likelihood import Row, nats, windows
from phi3kit.evaluation.multiple_choice import MultipleChoice
from phi3kit.measures import guessing
from phi3kit.testing import tiny

TOKENIZER = tiny.tokenizer()
NET = tiny.net(tiny.dims(vocab_size=TOKENIZER.vocab_size, context=16))


def slow_nats(ids: list[int], given: int) -> float:
    """One prediction after the other, each from a pass of its own."""
    total = 0.0
    for end in range(given, len(ids)):
        with torch.no_grad():
            probabilities = NET(torch.tensor([ids[:end]]))[0, -1].double().softmax(-1)
        total -= math.log(float(probabilities[ids[end]]))
    return total


def test_rows_of_any_length_together_equal_one_prediction_at_a_time() -> None:
    ids = TOKENIZER.encode(" ".join(tiny.TEXTS))
    rows = [Row(ids[:17]), Row(ids[5:9], 2), Row(ids[20:31], 10), Row(ids[40:42])]
    assert nats(NET, rows) == pytest.approx([slow_nats(*row) for row in rows], rel=1e-4)


def test_windows_predict_every_id_but_the_first_once() -> None:
    for length in (2, 16, 17, 18, 33, 50):
        rows = list(windows(range(length), 16))
        assert [id for row in rows for id in row.ids[row.given :]] == list(range(1, length))
        assert all(len(row.ids) <= 17 and row.given == 1 for row in rows)
    assert list(windows([3], 16)) == []


def test_bits_per_byte_of_two_passages() -> None:
    passages = [tiny.TEXTS[0], tiny.TEXTS[4]]
    total, size = 0.0, 0
    for passage in passages:
        ids = TOKENIZER.encode(passage)
        total += sum(slow_nats(row.ids, 1) for row in windows(ids, 16))
        size += len(TOKENIZER.decode(ids[1:]).encode())
    found = bits(NET, TOKENIZER, passages)
    assert found.size == size
    assert found.per_byte == pytest.approx(total / math.log(2) / size, rel=1e-4)


def test_a_net_that_knows_nothing_needs_the_logarithm_of_its_vocabulary() -> None:
    blank = tiny.net(tiny.dims(vocab_size=TOKENIZER.vocab_size, context=16))
    torch.nn.init.zeros_(blank.lm_head.weight)
    text = tiny.TEXTS[0]
    found = bits(blank, TOKENIZER, [text])
    predicted = len(TOKENIZER.encode(text)) - 1
    assert found.per_byte * found.size == pytest.approx(predicted * math.log2(TOKENIZER.vocab_size), rel=1e-5)


def reader(folder: Path, *texts: str) -> JSONLines:
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return JSONLines(str(folder / "texts.jsonl"))


def test_passages_are_whole_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"paragraph {i} " + " ".join(["word"] * 10) for i in range(9)]
    text = HeldOutText("text", reader(tmp_path, "\n\n".join(paragraphs), "{: markup}\n\nshort"), 150, without=["{:"])
    passages = text.read()
    assert "\n\n".join(passages) == "\n\n".join([*paragraphs, "short"])
    assert max(map(len, passages)) <= 150
    assert len(passages) == 6
    fewer = HeldOutText("text", text.reader, 150, passages=3, without=["{:"]).read()
    assert fewer == [passages[0], passages[2], passages[4]]
    longer = HeldOutText("text", text.reader, 150, without=["{:"], paragraph=6).read()
    assert "\n\n".join(longer) == "\n\n".join(paragraphs)
    whole = HeldOutText("text", text.reader, 0).read()
    assert whole == ["\n\n".join(paragraphs), "{: markup}\n\nshort"], "as it is"
    spaced = HeldOutText("text", reader(tmp_path, "one  two\t three \n  \n\n four\n  five\n")).read()
    assert spaced == ["one two three\n\nfour\nfive"]


def test_a_long_paragraph_is_cut_between_words(tmp_path: Path) -> None:
    paragraph = "one two three " * 40 + "x" * 70
    passages = HeldOutText("text", reader(tmp_path, paragraph), 50).read()
    assert max(map(len, passages)) <= 50
    assert "".join("".join(passages).split()) == "".join(paragraph.split())
    assert all(word in ("one", "two", "three") or set(word) == {"x"} for p in passages for word in p.split())


def test_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'text' has no text to measure"):
        HeldOutText("text", reader(tmp_path, "{: markup}"), without=["{:"]).read()


def questions(folder: Path, *rows: object) -> MultipleChoice:
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return MultipleChoice("q", str(folder / "q.jsonl"))


def test_answers_are_the_likeliest_choice_for_each_byte(tmp_path: Path) -> None:
    prompts = ["The lamp", "Boil the water first. Then", "Q: Why is the sky blue? A:", "A prime has"]
    choices = ["turns twice.", "add the salt", "Air scatters short waves of light more than long ones", "no"]
    best = []
    for prompt in prompts:
        scores = []
        for text in choices:
            given, whole = len(TOKENIZER.encode(prompt)), TOKENIZER.encode(f"{prompt} {text}")
            cut = max(0, len(whole) - 17)
            scores.append(-slow_nats(whole[cut:], max(1, given - cut)) / len(text.encode()))
        best.append(scores.index(max(scores)))
    right = [best[0], best[1], (best[2] + 1) % 4, best[3]]
    rows = [{"query": q, "choices": choices, "gold": gold} for q, gold in zip(prompts, right, strict=True)]
    answers = questions(tmp_path, *rows).ask(NET, TOKENIZER)
    assert (answers.right, answers.asked, answers.chance) == (3, 4, 0.25)
    assert answers.p == pytest.approx(4 * 0.25**3 * 0.75 + 0.25**4)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"query": "Q", "choices": ["a", "b"]}, r"q.jsonl:2 has no 'gold' \(it has: query, choices\)"),
        ({"query": "Q", "choices": ["a", "b"], "gold": 2}, "q.jsonl:2: the right answer is 2 of 2 choices"),
        ({"query": "Q", "choices": ["a"], "gold": 0}, "q.jsonl:2: the right answer is 0 of 1 choices"),
        (["Q"], r"q.jsonl:2 has no 'query' \(it has: list\)"),
    ],
)
def test_a_bad_question_is_named(row: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        questions(tmp_path, {"query": "Q", "choices": ["a", "b"], "gold": 1}, row).read()
    with pytest.raises(UserError, match="there is no file of questions"):
        MultipleChoice("q", str(tmp_path / "absent.jsonl"))


def test_guessing_is_the_binomial_tail_where_all_questions_are_alike() -> None:
    from scipy.stats import binom

    for right in (0, 20, 30, 100):
        assert guessing(right, [4] * 100) == pytest.approx(float(binom.sf(right - 1, 100, 0.25)), abs=1e-12)
    assert guessing(2, [2, 5]) == pytest.approx(0.1)
    assert guessing(1, [2, 5]) == pytest.approx(1 - 0.5 * 0.8)
