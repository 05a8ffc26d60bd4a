"""A report of a scorer from begin to end: what it is about, what to beware of, its headline, its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phi3kit.corpus.scorers.labels import Counts
from phi3kit.corpus.scorers.page import page
from phi3kit.corpus.scorers.saved import SavedScorer
from phi3kit.families import Annotator, Scorer

REPORT, PAGE = "report.json", "report.html"
FEW = 200  # labels: an AUC of so few moves by some hundredths from draw to draw
LONG_OR_SHORT = 0.3  # rank correlation with the length that is worth a warning
DRIFT = 0.1  # AUC lost from its own labels to trusted ones that is worth a warning


def begin(scorer: Scorer, counts: Counts, threshold: float, origin: str, annotator: Annotator | None) -> dict[str, Any]:
    """What a report is about."""
    named = scorer.scorer if isinstance(scorer, SavedScorer) else scorer
    return {
        "scorer": {"class": type(named).__name__, "aspect": scorer.aspect, "version": scorer.version},
        "labels": annotator.version if annotator else None,
        "weak": annotator.weak if annotator else False,
        "documents": {k: v for k, v in vars(counts).items() if isinstance(v, int)},
        "threshold": threshold,
        "threshold_from": origin,
        "positive": scorer.positive,
        "probability": scorer.probability,
        "folds": 0,
    }


def finish(report: dict[str, Any]) -> dict[str, Any]:
    """The report with its warnings and its headline."""
    report["warnings"] = warnings(report)
    report["headline"] = headline(report)
    return report


def write_report(report: dict[str, Any], folder: Path) -> None:
    """The report as JSON and as a page."""
    (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(report), encoding="utf-8", errors="backslashreplace")


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
    n_scored = sum(found["documents"] for found in report["sources"].values())
    judged = (
        f"{counts['labelled']} labelled by {report['labels']}" if report["labels"] else f"{n_scored} scored, no labels"
    )
    lines.append(f"{counts['read']} documents read{told}, {judged}")
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
    names = {"f1": "F1", "precision": "precision", "recall": "recall", "accuracy": "accuracy"}
    return ", ".join(f"{name} {rated[key]:.3f}" for key, name in names.items())
