"""How fast training is beside other work, with and without what phi3kit sets for threads that wait (`processes.py`).

  python benchmarks/busy.py [--rounds 4] [--steps 60] [--threads 2] [--neighbours 2] [--spins 1000]

Trains the same small net in fresh processes, by turns with OpenMP's own waiting (A) and with phi3kit's (B), once on the
machine as it is and once beside so many processes that compute without a pause. Tokens per second of each, median with
the smallest and the largest.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from phi3kit.verbs import processes

NEIGHBOUR = "while True: sum(i * i for i in range(10_000))"
OWN = "KMP_BLOCKTIME"  # set to its default, it keeps phi3kit from setting anything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 4), ("steps", 60), ("threads", 2), ("neighbours", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--spins", default=processes.SPINS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder, options.steps)
        for count in (0, options.neighbours):
            neighbours = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
            try:
                report(folder, options, count)
            finally:
                for process in neighbours:
                    process.kill()


def report(folder: Path, options: argparse.Namespace, neighbours: int) -> None:
    """A, B, A, B beside so many neighbours."""
    rates: dict[str, list[float]] = {"A, OpenMP's own": [], "B, phi3kit's": []}
    for _ in range(options.rounds):
        for way, found in rates.items():
            waiting = {OWN: "200"} if way.startswith("A") else {"GOMP_SPINCOUNT": options.spins, OWN: "0"}
            found.append(rate(folder, {"OMP_NUM_THREADS": str(options.threads), **waiting}))
    for way, found in rates.items():
        print(
            f"{neighbours} neighbours, {way}: {statistics.median(found):,.0f} tokens/s "
            f"[{min(found):,.0f}-{max(found):,.0f}]",
            flush=True,
        )


def rate(folder: Path, environment: dict[str, str]) -> float:
    """Tokens per second of one run, its first steps left out."""
    clean = {name: value for name, value in os.environ.items() if name not in processes.WAITING}
    out = tempfile.mkdtemp(dir=folder)
    command = [sys.executable, "-m", "phi3kit.cli", "fit", "--recipe", "recipe.yaml", "--out", out]
    subprocess.run(command, cwd=folder, env={**clean, **environment}, check=True, capture_output=True)
    rows = list(csv.DictReader((Path(out) / "metrics.csv").open()))
    return statistics.median(float(row["tokens_per_second"]) for row in rows[2:])


def write_input(folder: Path, steps: int) -> None:
    """A tokenizer, chats and a recipe: a net of pocket's width."""
    from phi3kit.testing import tiny
    from phi3kit.text import save_tokenizer

    tokenizer = tiny.tokenizer()
    (folder / "tokenizer").mkdir()
    save_tokenizer(tokenizer, folder / "tokenizer")
    turns = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "one two three four five " * 40}]
    (folder / "chats.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 64)
    net = {
        "dims": {"vocab_size": tokenizer.vocab_size, "hidden_size": 192, "n_layers": 4, "n_heads": 6, "n_kv_heads": 6},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
    }
    files = {"train": "chats.jsonl", "heldout": "chats.jsonl", "heldout_batches": 1}
    recipe = {
        "verb": "fit",
        "tokenizer": "tokenizer",
        "checkpoint_every": 0,
        "net": net,
        "phase": {
            "class_path": "NextToken",
            "init_args": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}}},
        },
        "data": {"class_path": "ConversationBatches", "init_args": {**files, "context": 256, "batch_size": 8}},
        "trainer": {"max_steps": steps, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 5},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


if __name__ == "__main__":
    main()
