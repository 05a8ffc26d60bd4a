"""What the loss falls on, read back as text."""

from __future__ import annotations

from pathlib import Path

from phi3kit import Message
from phi3kit.phases import ConversationBatches, PreferenceBatches
from phi3kit.phases.chat_batches import answer_only, supervised
from phi3kit.records import Batch
from phi3kit.text import HuggingFaceTokenizer, load_tokenizer

TALK = (
    Message("system", "Be brief."),
    Message("user", "What is 1 plus 2?"),
    Message("assistant", "It is 3."),
    Message("user", "What is 2 plus 3?"),
    Message("assistant", "It is 5."),
)


def test_sft_supervises_assistant_turns_and_their_end(arithmetic: Path) -> None:
    tokenizer = load_tokenizer(arithmetic / "tokenizer")
    row = supervised(TALK, tokenizer, 500)
    learned = [i for i, wanted in zip(row.ids, row.supervised, strict=True) if wanted]
    assert tokenizer.decode(learned) == "It is 3.<|end|>It is 5.<|end|>"


def test_sft_batches_supervise_answers_only(arithmetic: Path) -> None:
    tokenizer = load_tokenizer(arithmetic / "tokenizer")
    files = (arithmetic / "chat.jsonl", arithmetic / "chat.jsonl")
    data = ConversationBatches(tokenizer, *files, context=48, batch_size=2)
    answers = []
    for batch in data.val_dataloader():
        learned = batch.labels_BT[batch.labels_BT != -100].tolist()
        answers += tokenizer.decode(learned).split("<|end|>")[:-1]
    assert sorted(answers) == sorted(f"It is {2 * i + 1}." for i in range(60))


def test_dpo_supervises_the_answer_not_earlier_turns(arithmetic: Path) -> None:
    tokenizer = load_tokenizer(arithmetic / "tokenizer")
    row = answer_only(TALK[:4], TALK[4:], tokenizer)
    learned = [i for i, wanted in zip(row.ids, row.supervised, strict=True) if wanted]
    assert tokenizer.decode(learned) == "It is 5.<|end|>"


def test_dpo_rows_come_in_pairs(arithmetic: Path) -> None:
    tokenizer = load_tokenizer(arithmetic / "tokenizer")
    files = (arithmetic / "preferences.jsonl", arithmetic / "preferences.jsonl")
    data = PreferenceBatches(tokenizer, *files, context=64, batch_size=4)
    batch: Batch = next(iter(data.val_dataloader()))
    said = [tokenizer.decode(row[row != -100].tolist()) for row in batch.labels_BT]
    assert said[0::2] == [f"It is {2 * i + 1}.<|end|>" for i in range(4)]
    assert said[1::2] == ["No.<|end|>"] * 4
    assert isinstance(tokenizer, HuggingFaceTokenizer)
