"""A preparation that kills itself at a chosen moment; a module of its own, so that a fresh process can import it."""

from __future__ import annotations

import json
import os
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

from counting_scorer import CountingScorer

from phi3kit.corpus import ConversationFile, DocstringExercises, JSONLines, Length, Local, Preparation, Progress, Query
from phi3kit.corpus.engine import stage as stages
from phi3kit.corpus.minhash import MinHash

NO_DIGITS = str.maketrans("0123456789", "ghijklmnop")
STAGES = (
    *("divide", "read", "sift", "hashes", "duplicates", "signatures", "near-duplicates", "score", "scored", "choose"),
    *("exercises", "chats", "tokenizer", "encode", "tokens"),  # in the order in which they are run
)


def write_inputs(root: Path) -> None:
    """Documents in two files, and chats."""
    root.mkdir()
    for part in "ab":
        with (root / f"{part}.jsonl").open("w") as file:
            for i in range(24):
                letters = sha256(f"{part}{i}".encode()).hexdigest().translate(NO_DIGITS)
                words = " ".join(letters[j : j + 5] for j in range(40)) + " lamp" * i
                body = f"# {part}{i:02}\n\n{words}\n\n## {part}{i:02}.lift(stone)\n\nReturn the lamp.\n"
                file.write(json.dumps({"text": body}) + "\n")
    turns = [{"role": "user", "content": "Lift?"}, {"role": "assistant", "content": "Turn."}]
    (root / "chats.jsonl").write_text("\n".join(json.dumps({"messages": turns, "id": str(i)}) for i in range(30)))


def preparation(root: Path, least: float = 9, workers: int = 1) -> Preparation:
    """Every stage there is."""
    return Preparation(
        folder=str(root), readers=[JSONLines("?.jsonl")], filters=[Length(shortest=12)],
        scorers=[CountingScorer("lamp")], near_duplicates=MinHash(edited=None),
        phases=[Query("web"), Query("reasoning", least={"lamp": least}, synthetic=True)],
        exercises=[DocstringExercises()], conversations=[ConversationFile("chats.jsonl", holdout=0.2)],
        vocab_size=300, holdout=0.2, shard_megabytes=0.008, executor=Local(workers),
    )  # fmt: skip


def run_and_die(root: str, out: str, victim: str, moment: str) -> None:
    """Run it, and be killed in a stage: in the middle of a rank's work, or right after it was put in place."""
    work, rename = stages.run_rank, os.rename

    def run_rank(stage: Any, rank: int, folder: Path) -> None:
        if stage.name == victim and rank == stage.ranks - 1:
            if moment == "after":
                work(stage, rank, folder)
            else:
                stages.os.rename = die  # type: ignore[attr-defined]
                work(stage, rank, folder)
            die()
        work(stage, rank, folder)

    def die(*_: Any) -> None:
        stages.os.rename = rename  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGKILL)

    from phi3kit.corpus.engine import step

    step.run_rank = run_rank
    preparation(Path(root)).run(Path(out), Progress(quiet=True))
