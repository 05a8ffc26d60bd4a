"""What a scorer is worth, in numbers and samples: against labels, by source, around the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phi3kit.corpus.scorers import quality
from phi3kit.families import Labelled
from phi3kit.records import Document

BINS = 20  # of histograms
SAMPLES = 20  # just above the threshold, and as many just below
SHOWN = 400  # characters of a sample


@dataclass(frozen=True)
class Scored:
    """A document, its score, and its label where there is one."""

    document: Document
    score: float
    label: float | None = None
    rationale: str = ""


def scored(labelled: Sequence[Labelled], scores: Sequence[float]) -> list[Scored]:
    """Labelled documents with their scores."""
    return [Scored(x.document, s, x.label, x.rationale) for x, s in zip(labelled, scores, strict=True)]


def rate(items: Sequence[Scored], positive: float, threshold: float, probability: bool) -> dict[str, Any]:
    """AUC, F1, accuracy and calibration against labels; the documents must be of both sides."""
    scores, wanted = [item.score for item in items], [_label(item) >= positive for item in items]
    lengths = [len(item.document.text) for item in items]
    share = sum(wanted) / len(wanted)
    rated: dict[str, Any] = {
        "documents": len(items),
        "positive": sum(wanted),
        "auc": quality.auc(scores, wanted),
        "auc_at_equal_length": quality.auc_at_equal_length(scores, wanted, lengths),
        "auc_of_length_alone": quality.auc(lengths, wanted),
        **quality.at(threshold, scores, wanted),
        "accuracy_of_always_saying_the_same": max(share, 1 - share),
        "correlation_with_labels": quality.correlation(scores, [_label(item) for item in items]),
        "reliability": quality.reliability(scores, wanted),
        "roc": quality.roc(scores, wanted),
    }
    if probability:
        rated |= {"brier": quality.brier(scores, wanted), "brier_of_always_saying_the_share": share * (1 - share)}
    return rated


def describe(items: Sequence[Scored], threshold: float) -> dict[str, Any]:
    """Scores by source, against length, and samples around the threshold; labels are not needed."""
    scores_N = np.array([item.score for item in items])
    low, high = float(scores_N.min()), float(scores_N.max())
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    sources: dict[str, list[float]] = {}
    for item in items:
        sources.setdefault(item.document.source, []).append(item.score)
    above = sorted((x for x in items if x.score >= threshold), key=lambda x: (x.score, x.document.id))[:SAMPLES]
    below = sorted((x for x in items if x.score < threshold), key=lambda x: (-x.score, x.document.id))[:SAMPLES]
    return {
        "bins": edges.tolist(),
        "sources": {
            source: {
                "documents": len(values),
                "mean": float(np.mean(values)),
                "median": float(np.median(values)),
                "kept": float((np.array(values) >= threshold).mean()),
                "histogram": np.histogram(values, edges)[0].tolist(),
            }
            for source, values in sorted(sources.items())
        },
        "correlation_with_length": quality.correlation(
            [item.score for item in items], [len(item.document.text) for item in items]
        ),
        "just_above": [_sample(item) for item in above],
        "just_below": [_sample(item) for item in below],
    }


def _label(item: Scored) -> float:
    assert item.label is not None
    return item.label


def _sample(item: Scored) -> dict[str, Any]:
    return {
        "id": item.document.id,
        "source": item.document.source,
        "score": item.score,
        "label": item.label,
        "rationale": item.rationale,
        "text": item.document.text[:SHOWN],
    }
