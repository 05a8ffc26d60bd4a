"""Filters: documents per second of the web profile's heuristics, beside datatrove's stock chain in the same run.

  python benchmarks/filters.py ../shared/data/web/c4_demo.jsonl ../shared/data/web/quality_labels/*.jsonl
  python benchmarks/filters.py PAGES.jsonl --clock cpu       # a busy machine: count our own CPU time
  python benchmarks/filters.py PAGES.jsonl --rounds 5

PAGES are JSONL with `text`. The chain is FineWeb's: Gopher repetition, Gopher quality, C4 without its rule of line
ends, FineWeb quality; a document that one rejects does not reach the next. "every filter" asks them all about every
document. Stock English splits words with spaCy (`pip install spacy`; skipped where it is absent); "stock, our words"
are datatrove's classes with our splitter. The order of turns changes from round to round; shown are the medians over
rounds, and the best. With --profile the whole web profile is timed as well: language, heuristics, personal data.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from datatrove.data import Document as TheirDocument
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

from phi3kit.corpus import C4Lines, C4Quality, FineWebQuality, FineWebWords, GopherQuality, GopherRepetition
from phi3kit.corpus.profiles import judge, web
from phi3kit.corpus.words import for_datatrove
from phi3kit.families import Cleaner
from phi3kit.records import Document

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Run = Callable[[list[str]], int]  # texts -> how many are kept


def ours(stop: bool) -> Run:
    steps = [
        *(GopherRepetition(), GopherQuality()),
        *(C4Quality(terminal_punctuation=False), C4Lines(terminal_punctuation=False), FineWebQuality()),
    ]

    def run(texts: list[str]) -> int:
        kept = 0
        for i, text in enumerate(texts):
            document = Document(str(i), text)
            if stop:
                kept += judge(steps, document)[1] is None
                continue
            verdicts = []
            for step in steps:
                if isinstance(step, Cleaner):
                    document = step.clean(document)
                else:
                    verdicts.append(step.reject(document) is None)
            kept += all(verdicts)
        return kept

    return run


def stock(language: Any, stop: bool) -> Run:
    steps = [
        *(GopherRepetitionFilter(language=language), GopherQualityFilter(language=language)),
        C4QualityFilter(filter_no_terminal_punct=False, language=language),
        FineWebQualityFilter(language=language),
    ]

    def run(texts: list[str]) -> int:
        kept = 0
        for i, text in enumerate(texts):
            document = TheirDocument(text, str(i))
            verdicts: Iterable[bool] = (step.filter(document) is True for step in steps)
            kept += all(verdicts if stop else list(verdicts))
        return kept

    return run


def profile(texts: list[str]) -> int:
    steps = web()
    return sum(judge(steps, Document(str(i), text))[1] is None for i, text in enumerate(texts))


def main() -> None:
    options = arguments()
    texts = [json.loads(line)["text"] for path in options.pages for line in path.read_text().splitlines()]
    size = statistics.mean(len(text.encode()) for text in texts)
    print(f"{len(texts)} documents of {size:,.0f} bytes; {options.clock} clock, {options.rounds} rounds")
    runs: dict[str, Run] = {}
    for stop, how in ((True, "chain"), (False, "every filter")):
        runs[f"ours, {how}"] = ours(stop)
        runs[f"stock, our words, {how}"] = stock(for_datatrove(FineWebWords()), stop)
        if importlib.util.find_spec("spacy"):
            runs[f"stock English, {how}"] = stock("eng", stop)
    if not importlib.util.find_spec("spacy"):
        print("stock English is skipped: spaCy is not installed (pip install spacy)")
    if options.profile:
        runs["the web profile"] = profile
    speeds, kept = measure(runs, texts, options.rounds, CLOCKS[options.clock])
    for name, values in speeds.items():
        how = name.rpartition(", ")[2]
        base = speeds.get(f"stock English, {how}")
        times = f", {statistics.median(values) / statistics.median(base):.1f} × stock English" if base else ""
        middle, best = statistics.median(values), max(values)
        print(f"{name:34} {middle:7,.0f} documents/s (best {best:,.0f}), {kept[name]} kept{times}")


def measure(
    runs: dict[str, Run], texts: list[str], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Documents per second of each run in each round, turn by turn; and how many documents it keeps."""
    kept = {name: run(texts[:50]) for name, run in runs.items()}  # warm: imports, tables, caches
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: 1 if i % 2 else -1]:
            began = clock()
            kept[name] = runs[name](texts)
            speeds[name].append(len(texts) / (clock() - began))
    return speeds, kept


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
