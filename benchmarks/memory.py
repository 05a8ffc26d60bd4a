"""Memory: the most that `prepare` holds at a time, for 1, 4 and 16 times the same size of corpus.

  python benchmarks/memory.py TEXTS.jsonl --tokenizer tokenizer.json --megabytes 2

TEXTS are JSONL with `text`; the corpus is made of their words, shuffled by sentence so that no document repeats
another. Every stage runs in one process after the other's work is done: reading, filters, scores, exact and near
duplicates, phases, tokens. Shown is the peak of the resident memory of that process, and of one that only imports.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from phi3kit.corpus import JSONLines, Length, Local, Preparation, Progress, Query
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.scorers import ReasoningDensity
from phi3kit.text import HuggingFaceTokenizer

TIMES = (1, 4, 16)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
    parser.add_argument("--megabytes", type=float, default=2.0, help="of the smallest corpus")
    parser.add_argument("--shard_megabytes", type=float, default=1.0)
    options = parser.parse_args()
    sentences = [s for file in options.texts for s in _sentences(file)]
    for times in (0, *TIMES):
        with tempfile.TemporaryDirectory() as folder:
            n = _write(Path(folder) / "texts.jsonl", sentences, max(times * options.megabytes, 0.1))
            began = time.perf_counter()
            peak = _measure(Path(folder), options.tokenizer, options.shard_megabytes)
            size = (Path(folder) / "texts.jsonl").stat().st_size / 2**20
            seconds = time.perf_counter() - began
            print(f"{times:>3}x {size:>8.1f} MB {n:>8} documents {peak:>8.0f} MB at most {seconds:>7.0f} s", flush=True)


def _sentences(file: Path) -> list[str]:
    return [s for line in file.read_text().splitlines() for s in json.loads(line)["text"].split(". ") if s.strip()]


def _write(file: Path, sentences: list[str], megabytes: float) -> int:
    """Documents of about 2.6 kB; return how many."""
    n = size = 0
    random = Random(0)
    with file.open("w") as stream:
        for text in _documents(sentences, random):
            stream.write(json.dumps({"text": text}) + "\n")
            n, size = n + 1, size + len(text)
            if size > megabytes * 2**20:
                return n
    return n


def _documents(sentences: list[str], random: Random) -> Iterator[str]:
    while True:
        words = " ".join(random.sample(sentences, 25)).split()
        random.shuffle(words)
        yield " ".join(words)


def _measure(folder: Path, tokenizer: str, shard_megabytes: float) -> float:
    """The peak of a process of its own, in MB."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_prepare, args=(str(folder), tokenizer, shard_megabytes, results))
    process.start()
    process.join()
    assert process.exitcode == 0
    return results.get()


def _prepare(folder: str, tokenizer: str, shard_megabytes: float, results) -> None:  # type: ignore[no-untyped-def]
    Preparation(
        folder=folder, readers=[JSONLines("texts.jsonl")], filters=[Length()], scorers=[ReasoningDensity()],
        near_duplicates=MinHash(), tokenizer=HuggingFaceTokenizer(tokenizer), shard_megabytes=shard_megabytes,
        phases=[Query("web"), Query("reasoning", least={"reasoning": 1})], executor=Local(1),
    ).run(Path(folder) / "out", Progress(quiet=True))  # fmt: skip
    results.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
