"""A preparation with texts that a model writes; a module of its own, so that a fresh process can run it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from counting_scorer import CountingScorer
from writing_model import words_of

from phi3kit.corpus import JSONLines, Local, Preparation, Progress, Query
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.synthesis import (
    Exercises,
    LanguageModelSynthesizer,
    MajorityVote,
    QuestionsAndAnswers,
    TextbookSection,
)

QUESTION = "Which of the two lamps on the harbour wall turns at half the pace of the other one at night?"


def write_inputs(root: Path) -> None:
    """Web pages with 0 to 9 lamps, topics and a benchmark."""
    root.mkdir()
    rows = [{"text": f"{words_of(f'page {i}')}. " + "lamp " * (i % 10)} for i in range(40)]
    (root / "web.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "topics.txt").write_text("\n".join(f"topic {i}" for i in range(20)))
    (root / "bench.jsonl").write_text(json.dumps({"question": QUESTION, "id": 1}))


def preparation(root: Path, url: str, workers: int = 1, **query: Any) -> Preparation:
    """Sections on topics, voted exercises on the last phase's documents, and chats."""

    def maker(prompt: Any, **options: Any) -> LanguageModelSynthesizer:
        return LanguageModelSynthesizer(url, "writes", "answers.jsonl", prompt, concurrency=2, retries=0, **options)

    return Preparation(
        folder=str(root), readers=[JSONLines("web.jsonl")], scorers=[CountingScorer("lamp")],
        near_duplicates=MinHash(), benchmarks=["bench.jsonl"],
        phases=[Query("web"), Query("reasoning", least={"lamp": 6}, synthetic=True, **query)],
        exercises=[
            maker(TextbookSection(least_words=20), seeds="topics.txt"), maker(Exercises(), vote=MajorityVote(3)),
        ],
        conversations=[maker(QuestionsAndAnswers(), most_seeds=6, holdout=0.3)],
        vocab_size=300, holdout=0.2, executor=Local(workers),
    )  # fmt: skip


if __name__ == "__main__":
    preparation(Path(sys.argv[1]), sys.argv[3]).run(Path(sys.argv[2]), Progress(quiet=True))
