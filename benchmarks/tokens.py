"""Tokens: the two stages that encode documents and write chunks, beside the raw encoder in the same run, on one core.

  python benchmarks/tokens.py TEXTS.jsonl --hugging_face tokenizer.json --tiktoken cl100k_base.tiktoken --megabytes 8

TEXTS are JSONL with `text`. "raw" is `encode_batch` alone on texts in memory; "stages" reads a Parquet shard, encodes,
stores ids, then copies every document's ids into litdata chunks and checks the sum. The order of turns alternates;
shown are the medians over rounds, in tokens per second and as a share of the raw encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import cycle
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # one core, as a worker has

import numpy

from phi3kit.corpus.engine.describe import sha256_of
from phi3kit.corpus.engine.stage import File
from phi3kit.corpus.shards import write_shard
from phi3kit.corpus.stages.encode import DOCUMENTS_AT_ONCE, Encode
from phi3kit.corpus.stages.write import Encoded, Tokens
from phi3kit.families import Tokenizer
from phi3kit.records import Document
from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--hugging_face", help="a tokenizer.json")
    parser.add_argument("--tiktoken", help="cl100k_base.tiktoken")
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine")
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    texts = _texts(options.texts, options.megabytes)
    print(f"{len(texts)} documents, {sum(map(len, texts)) / 2**20:.1f} M characters, {options.clock} time")
    if options.hugging_face:
        _compare("Hugging Face", HuggingFaceTokenizer(options.hugging_face), texts, options.rounds, clock)
    if options.tiktoken:
        _compare("tiktoken", Cl100kTokenizer(options.tiktoken), texts, options.rounds, clock)


def _texts(files: list[Path], megabytes: float) -> list[str]:
    """The files' texts, again and again (each time told apart), up to a size."""
    rows = [json.loads(line)["text"] for file in files for line in file.read_text().splitlines()]
    texts, size = [], 0
    for number, text in enumerate(cycle(rows)):
        if size > megabytes * 2**20:
            return texts
        texts.append(f"{number} {text}")
        size += len(text)
    return texts


def _compare(name: str, tokenizer: Tokenizer, texts: list[str], rounds: int, clock) -> None:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "documents.parquet"
        write_shard(shard, (Document(f"d{i}", text) for i, text in enumerate(texts)))
        _stages(shard, tokenizer, Path(folder) / "warm")  # imports
        raw, stages = [], []
        for number in range(rounds):
            turns = [("raw", raw), ("stages", stages)]
            for kind, times in turns if number % 2 else turns[::-1]:
                began = clock()
                tokens = (
                    _raw(texts, tokenizer) if kind == "raw" else _stages(shard, tokenizer, Path(folder) / str(number))
                )
                times.append((tokens, clock() - began))
        assert raw[0][0] == stages[0][0], f"{raw[0][0]} and {stages[0][0]} tokens"
        speeds = [statistics.median(n / seconds for n, seconds in times) for times in (raw, stages)]
        print(f"{name:<14} raw {speeds[0]:>11,.0f}  stages {speeds[1]:>11,.0f} tokens/s  {speeds[1] / speeds[0]:.0%}")


def _raw(texts: list[str], tokenizer: Tokenizer) -> int:
    groups = (texts[i : i + DOCUMENTS_AT_ONCE] for i in range(0, len(texts), DOCUMENTS_AT_ONCE))
    return sum(len(ids) + 1 for group in groups for ids in tokenizer.encode_batch(group))


def _stages(shard: Path, tokenizer: Tokenizer, folder: Path) -> int:
    for name in ("encoded", "tokens"):
        (folder / name).mkdir(parents=True)
    file = _file(shard)
    counts = Encode([file], tokenizer).work(0, folder / "encoded")
    masks = folder / "phases.bin"
    numpy.ones(counts["documents"], numpy.uint32).tofile(masks)
    ids, lengths = (_file(folder / "encoded" / f"{name}.bin") for name in ("ids", "lengths"))
    encoded = Encoded(file, _file(masks), ids, lengths, counts["type"])
    written = Tokens([[encoded]], 0, "train", [], {}).work(0, folder / "tokens")
    return sum(written["tokens"].values())


def _file(path: Path) -> File:
    return File(path, sha256_of(path), path.stat().st_size)


if __name__ == "__main__":
    main()
