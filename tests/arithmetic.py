"""A seconds-long training recipe on made-up arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from phi3kit.text import save_tokenizer, train_bpe

RECIPE: dict[str, Any] = {
    "verb": "fit",
    "tokenizer": "tokenizer",
    "checkpoint_every": 3,
    "net": {
        "dims": {
            "vocab_size": 320,
            "hidden_size": 32,
            "n_layers": 2,
            "n_heads": 4,
            "n_kv_heads": 2,
            "context": 64,
        },
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
    },
    "phase": {
        "class_path": "NextToken",
        "init_args": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}}},
    },
    "data": {
        "class_path": "ConversationBatches",
        "init_args": {"train": "chat.jsonl", "heldout": "chat.jsonl", "context": 48, "batch_size": 2},
    },
    "trainer": {"max_steps": 30, "accelerator": "cpu", "log_every_n_steps": 10},
}


def write_arithmetic(tmp_path: Path) -> Path:
    """Fill a folder with chat.jsonl, preferences.jsonl, tokenizer/ and recipe.yaml."""
    chats, pairs = [], []
    for i in range(60):
        question = {"role": "user", "content": f"What is {i} plus {i + 1}?"}
        answer = {"role": "assistant", "content": f"It is {2 * i + 1}."}
        chats.append({"id": str(i), "messages": [question, answer]})
        wrong = {"role": "assistant", "content": "No."}
        pairs.append({"id": str(i), "prompt": [question], "chosen": [answer], "rejected": [wrong]})
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chats))
    (tmp_path / "preferences.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    (tmp_path / "tokenizer").mkdir()
    texts = [m["content"] for c in chats for m in c["messages"]]
    save_tokenizer(train_bpe(texts, vocab_size=300), tmp_path / "tokenizer")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def command(*arguments: str) -> list[str]:
    """The phi3kit command line, in this interpreter."""
    return [sys.executable, "-m", "phi3kit.cli", *arguments]


def environment() -> dict[str, str]:
    """One thread: the tests share a small machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def phi3kit(folder: Path, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end in a folder."""
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout
    )
