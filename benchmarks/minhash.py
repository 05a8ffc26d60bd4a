"""MinHash and decontamination: documents per second, beside datatrove's in the same run, and what each finds.

  python benchmarks/minhash.py ../shared/data/web/c4_demo.jsonl ../shared/data/web/quality_labels/*.jsonl
  python benchmarks/minhash.py PAGES.jsonl --clock cpu           # a busy machine: count our own CPU time
  python benchmarks/minhash.py PAGES.jsonl --benchmarks ../shared/data/benchmarks/*.jsonl
  python benchmarks/minhash.py PAGES.jsonl --copies 200          # edited copies: how many are found

PAGES are JSONL with `text`. Signatures are 14 bands of 8 hashes of 5-grams. Stock English splits words with spaCy
(`pip install spacy`; skipped where it is absent); "stock, our words" is datatrove's class with our splitter, whose
signatures ours equal. "bands only" is without the sketch that finds copies edited all over. The order of turns changes
from round to round; shown are the medians over rounds, and the best.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

from phi3kit.corpus import FineWebWords
from phi3kit.corpus.decontamination import Benchmarks
from phi3kit.corpus.minhash import MinHash, normalised
from phi3kit.corpus.near_duplicates import near_duplicates, write_signatures
from phi3kit.corpus.words import for_datatrove

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    options = arguments()
    texts = [json.loads(line)["text"] for path in options.pages for line in path.read_text().splitlines()]
    size = statistics.mean(len(text.encode()) for text in texts)
    print(f"{len(texts)} documents of {size:,.0f} bytes; {options.clock} clock, {options.rounds} rounds")
    minhash, words = MinHash(), FineWebWords()
    runs: dict[str, Callable[[str], Any]] = {
        "ours": minhash.signature,
        "ours, bands only": lambda text: minhash.bands_of(words.split(normalised(text))),
        "stock, our words": stock(for_datatrove(words)),
    }
    if importlib.util.find_spec("spacy"):
        runs["stock English"] = stock("eng")
    else:
        print("stock English is skipped: spaCy is not installed (pip install spacy)")
    if options.benchmarks:
        runs["decontamination"] = Benchmarks.load(options.benchmarks).hits
    speeds = measure(runs, texts, options.rounds, CLOCKS[options.clock])
    base = speeds.get("stock English")
    for name, values in speeds.items():
        middle, best = statistics.median(values), max(values)
        times = f", {middle / statistics.median(base):.1f} × stock English" if base else ""
        print(f"{name:20} {middle:7,.0f} documents/s (best {best:,.0f}), {middle * size / 1e6:.2f} MB/s{times}")
    if options.copies:
        for name, edited in (("ours", 0.8), ("ours, bands only (as stock)", None)):
            removed, lost = recall(texts, options.copies, MinHash(edited=edited))
            print(f"{name}: {removed} of {options.copies} edited copies removed, {lost} of {len(texts)} originals lost")


def stock(language: Any) -> Callable[[str], Any]:
    step = MinhashDedupSignature(tempfile.mkdtemp(), language=language)

    def signature(text: str) -> Any:
        shingles = step.get_shingles(text)
        return step.get_signature(shingles) if len(shingles) else None

    return signature


def recall(texts: Sequence[str], n_copies: int, minhash: MinHash) -> tuple[int, int]:
    """(copies removed, originals lost), with copies of documents of 50 words or more put after all of them."""
    draw = random.Random(0)
    vocabulary = [word for text in texts for word in text.split()]
    chosen = draw.sample([text for text in texts if len(text.split()) >= 50], n_copies)
    copies = [edit(text, draw.uniform(0.05, 0.2), draw, vocabulary) for text in chosen]
    with tempfile.TemporaryDirectory() as folder:
        write_signatures(Path(folder), [*texts, *copies], minhash)
        rows = [copy.row for copy in near_duplicates([Path(folder)], minhash)]
    return sum(row >= len(texts) for row in rows), sum(row < len(texts) for row in rows)


def edit(text: str, share: float, draw: random.Random, vocabulary: Sequence[str]) -> str:
    """Replace, leave out, or put another word before, a share of the words."""
    made: list[str] = []
    for word in text.split(" "):
        other = draw.choice(vocabulary)
        made += draw.choice([[other], [], [other, word]]) if draw.random() < share else [word]
    return " ".join(made)


def measure(
    runs: dict[str, Callable[[str], Any]], texts: Sequence[str], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Documents per second of each run in each round, turn by turn."""
    for run in runs.values():
        run(texts[0])  # warm: imports, tables
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: 1 if i % 2 else -1]:
            began = clock()
            for text in texts:
                runs[name](text)
            speeds[name].append(len(texts) / (clock() - began))
    return speeds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--benchmarks", type=Path, nargs="*", default=[])
    parser.add_argument("--copies", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
