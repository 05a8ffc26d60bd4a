"""Scorers: documents per second on one core, and 5-fold AUC on labelled pages, beside scikit-learn's own pipeline.

  python benchmarks/scorers.py ../shared/data/web/quality_labels/dclm_agreement_data.jsonl
  python benchmarks/scorers.py LABELS.jsonl --clock cpu             # a busy machine: count our own CPU time
  python benchmarks/scorers.py LABELS.jsonl --encoder FOLDER        # an embedding head on a local model as well

LABELS is JSONL with `text` and a `label` of 0 or 1. Each round scores all texts with each scorer, turn by turn; shown
are the medians over rounds, and the best. AUC is the mean of the folds' over shuffles, in brackets its least and most;
"same length" is the AUC among texts of about the same length, without what length alone explains; Brier is the mean
squared error of the probability. The stock pipeline is HashingVectorizer (2^18, 1-2-grams), TfidfTransformer
(sublinear) and LogisticRegression (C = 10).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from phi3kit.corpus.scorers import EmbeddingHead, HashedNGrams, ReasoningDensity, TriviaDensity, quality

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
FOLDS = 5


class Stock:
    """scikit-learn's pipeline, as a scorer."""

    learns = True

    def __init__(self) -> None:
        hashing = HashingVectorizer(n_features=2**18, ngram_range=(1, 2), norm=None, alternate_sign=False)
        regression = LogisticRegression(C=10, max_iter=2000)
        self.pipeline = make_pipeline(hashing, TfidfTransformer(sublinear_tf=True), regression)

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        self.pipeline.fit(texts, np.asarray(labels) >= 3)

    def score(self, texts: Sequence[str]) -> list[float]:
        return self.pipeline.predict_proba(texts)[:, 1].tolist()


def main() -> None:
    options = arguments()
    rows = [json.loads(line) for line in options.labels.read_text().splitlines()]
    texts, wanted_N = [row["text"] for row in rows], np.array([row["label"] for row in rows])
    makers: dict[str, Callable] = {"stock TF-IDF pipeline": Stock, "HashedNGrams": HashedNGrams}
    if options.encoder:
        makers |= {f"EmbeddingHead {h}": lambda h=h: EmbeddingHead(options.encoder, head=h) for h in options.heads}
    makers |= {"ReasoningDensity": ReasoningDensity, "TriviaDensity": TriviaDensity}
    size = statistics.mean(len(text.encode()) for text in texts)
    print(f"{len(texts)} texts of {size:,.0f} bytes, {int(wanted_N.sum())} positive; {options.clock} clock")
    print(f"length alone: AUC {quality.auc([len(text) for text in texts], wanted_N):.3f}\n")
    speeds = speed(makers, texts, wanted_N, options)
    print("| scorer | documents/s | best | against stock | AUC | same length | Brier |\n|---|---|---|---|---|---|---|")
    for name, make in makers.items():
        told = worth(make, texts, wanted_N, options.shuffles) if make().learns else "– | – | –"
        ratio = statistics.median(a / b for a, b in zip(speeds[name], speeds["stock TF-IDF pipeline"], strict=True))
        median, best = statistics.median(speeds[name]), max(speeds[name])
        print(f"| {name} | {median:,.0f} | {best:,.0f} | {ratio:.1f} × | {told} |", flush=True)


def speed(
    makers: dict[str, Callable], texts: list[str], wanted_N: np.ndarray, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Documents per second of each round."""
    scorers = {name: make() for name, make in makers.items()}
    for scorer in scorers.values():
        if scorer.learns:
            scorer.fit(texts, (wanted_N * 5.0).tolist())
        if isinstance(scorer, EmbeddingHead):
            scorer.score(texts[:2])
    clock, many = CLOCKS[options.clock], texts * options.repeat
    speeds: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(options.rounds):
        for name, scorer in scorers.items():
            asked = [f"{text} " for text in texts] if name.startswith("EmbeddingHead") else many  # not remembered
            began = clock()
            scorer.score(asked)
            speeds[name].append(len(asked) / (clock() - began))
    return speeds


def worth(make: Callable, texts: list[str], wanted_N: np.ndarray, shuffles: int) -> str:
    """AUC, AUC at equal length and Brier score of documents that a scorer had not seen."""
    areas, equal, briers = [], [], []
    for seed in range(shuffles):
        fold_N, scores_N = quality.folds(wanted_N, FOLDS, seed), np.empty(len(texts))
        for fold in range(FOLDS):
            scorer, held, rest = make(), np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)
            scorer.fit([texts[i] for i in rest], (wanted_N[rest] * 5.0).tolist())
            scores_N[held] = scorer.score([texts[i] for i in held])
        inside = [fold_N == fold for fold in range(FOLDS)]
        areas.append(statistics.mean(quality.auc(scores_N[f], wanted_N[f]) for f in inside))
        equal.append(quality.auc_at_equal_length(scores_N, wanted_N, [len(text) for text in texts]) or 0.0)
        briers.append(quality.brier(scores_N, wanted_N))
    area = f"{statistics.mean(areas):.3f} ({min(areas):.3f} – {max(areas):.3f})"
    return f"{area} | {statistics.mean(equal):.3f} | {statistics.mean(briers):.3f}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="JSONL with text and a label of 0 or 1")
    parser.add_argument("--encoder", help="local folder of a model, for EmbeddingHead")
    parser.add_argument("--heads", nargs="+", default=["logistic", "forest"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3, help="how often the texts are scored in a round")
    parser.add_argument("--shuffles", type=int, default=3, help="of the folds")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: time of this process on all cores")
    return parser.parse_args()


if __name__ == "__main__":
    main()
