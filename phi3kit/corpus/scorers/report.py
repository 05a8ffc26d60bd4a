"""What a scorer is worth, in numbers and samples: one report, as JSON, as a page, and in a few lines."""

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
FEW = 200  # labels: an AUC of so few moves by some hundredths from draw to draw
LONG_OR_SHORT = 0.3  # rank correlation with the length that is worth a warning
DRIFT = 0.1  # AUC lost from its own labels to trusted ones that is worth a warning


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


def warnings(report: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must not overlook."""
    told = []
    rated, trusted = report.get("quality"), report.get("trusted")
    if rated and rated["documents"] < FEW:
        told.append(f"only {rated['documents']} labels: another draw of them may move the AUC by some hundredths")
    if rated and rated["accuracy"] <= rated["accuracy_of_always_saying_the_same"]:
        told.append("at this threshold it is right no more often than always saying the same would be")
    if abs(report["correlation_with_length"]) >= LONG_OR_SHORT:
        kind = "longer" if report["correlation_with_length"] > 0 else "shorter"
        told.append(
            f"it prefers {kind} texts (rank correlation {report['correlation_with_length']:.2f}){_of_length(rated)}"
        )
    if report.get("weak") and not trusted:
        told.append(
            "its labels are weak (guessed, not judged), and nothing trusted is beside them: name `trusted` labels, the "
            "AUC above says only how well it learned the guess"
        )
    if trusted and rated and trusted["auc"] < rated["auc"] - DRIFT:
        told.append(
            f"it agrees less with trusted labels (AUC {trusted['auc']:.3f}) than with its own ({rated['auc']:.3f}): "
            "it learned something else than what the trusted ones mean"
        )
    return told


def headline(report: dict[str, Any]) -> list[str]:
    """The report in a few lines."""
    scorer, counts = report["scorer"], report["documents"]
    lines = [f"{scorer['class']} for {scorer['aspect']}, version {scorer['version']}"]
    left_out = {k: counts[k] for k in ("same_text", "excluded") if counts[k]}
    told = "".join(f", {n} {_OUT[kind]}" for kind, n in left_out.items())
    lines.append(
        f"{counts['read']} documents read{told}, {counts['labelled']} labelled by {report['labels'] or 'nobody'}"
    )
    if rated := report.get("quality"):
        spread = f" ± {rated['auc_spread']:.3f} over {report['folds']} folds" if "auc_spread" in rated else ""
        lines.append(f"AUC {rated['auc']:.3f}{spread}; at {report['threshold']:.4g}: {_at(rated)}")
        if "brier" in rated:
            by_chance = rated["brier_of_always_saying_the_share"]
            lines.append(
                f"calibration: Brier {rated['brier']:.3f} (knowing only the share of positives: {by_chance:.3f})"
            )
    if trusted := report.get("trusted"):
        lines.append(f"against {trusted['labels']} ({trusted['documents']}): AUC {trusted['auc']:.3f}; {_at(trusted)}")
    for source, found in list(report["sources"].items())[:8]:
        lines.append(f"  {source or '(no source)'}: {found['documents']} documents, mean {found['mean']:.3g}, "
                     f"{found['kept']:.0%} at or above {report['threshold']:.4g}")  # fmt: skip
    return lines + [f"warning: {text}" for text in report["warnings"]]


def _of_length(rated: dict[str, Any] | None) -> str:
    if not rated or rated["auc_at_equal_length"] is None:
        return ""
    return (
        f"; length alone has an AUC of {rated['auc_of_length_alone']:.3f}, and among texts of about the same length "
        f"the scorer has {rated['auc_at_equal_length']:.3f}"
    )


_OUT = {"same_text": "repeated or empty", "excluded": "left out (they trained it)"}


def _at(rated: dict[str, Any]) -> str:
    return f"F1 {rated['f1']:.3f}, precision {rated['precision']:.3f}, recall {rated['recall']:.3f}, accuracy {rated['accuracy']:.3f}"  # noqa: E501


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
