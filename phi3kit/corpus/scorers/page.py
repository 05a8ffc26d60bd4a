"""A report as one page of HTML: no scripts, nothing loaded from elsewhere, every text of a document escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from phi3kit.corpus.scorers.plots import curve, histogram

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --paper: #fbfbfa; --soft: #6b7480; --line: #d6d9dd;
  --bar: #a9b4c0; --kept: #2f6f9f; --warn: #a4510b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --paper: #16191d; --soft: #98a2ad; --line: #353b42;
  --bar: #56616d; --kept: #6fb1e0; --warn: #e79b57; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.soft, figcaption, th { color: var(--soft); } .warning { color: var(--warn); }
.numbers { display: flex; flex-wrap: wrap; gap: 1.6rem; margin: 1rem 0; }
.numbers div { min-width: 5.5rem; } .numbers b { display: block; font-size: 1.5rem; font-weight: 600; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; } svg { width: 100%; height: auto; }
svg text { font: 10px system-ui, sans-serif; fill: var(--soft); }
.bar { fill: var(--bar); } .kept { fill: var(--kept); } .axis, .diagonal { stroke: var(--line); fill: none; }
.diagonal { stroke-dasharray: 4 3; } .mark { stroke: var(--warn); stroke-width: 1.5; }
.curve { stroke: var(--kept); fill: none; stroke-width: 2; } .dot { fill: var(--kept); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; } td.text { overflow-wrap: anywhere; }
"""


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    scorer = report["scorer"]
    title = f"{scorer['class']} for {scorer['aspect']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">version {escape(scorer["version"])} · threshold {report["threshold"]:.4g} '
        f"({escape(report['threshold_from'])}) · labels: {escape(report['labels'] or 'none')}</p>",
        *(f'<p class="warning">⚠ {escape(text)}</p>' for text in report["warnings"]),
        _numbers(report),
        _quality(report),
        _sources(report),
        _samples("Just above the threshold", report["just_above"]),
        _samples("Just below it", report["just_below"]),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _numbers(report: dict[str, Any]) -> str:
    rated, counts = report.get("quality"), report["documents"]
    shown = [(f"{counts['read']:,}", "documents read"), (f"{counts['labelled']:,}", "labelled")]
    if rated:
        spread = f" ± {rated['auc_spread']:.3f}" if "auc_spread" in rated else ""
        shown += [(f"{rated['auc']:.3f}", f"AUC{spread}"), (f"{rated['f1']:.3f}", "F1")]
        shown += [(f"{rated[name]:.3f}", name) for name in ("precision", "recall", "accuracy")]
        shown += [(f"{rated['brier']:.3f}", "Brier")] if "brier" in rated else []
    if trusted := report.get("trusted"):
        shown.append((f"{trusted['auc']:.3f}", f"AUC on {trusted['documents']} trusted labels"))
    shown.append((f"{report['correlation_with_length']:+.2f}", "correlation with length"))
    cells = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for value, name in shown)
    return f'<div class="numbers">{cells}</div>'


def _quality(report: dict[str, Any]) -> str:
    rated = report.get("quality")
    if not rated:
        return ""
    bins = rated["reliability"]
    high = max(1.0, *(b["mean_score"] for b in bins)) if report["probability"] else max(b["mean_score"] for b in bins)
    dots = [(max(b["mean_score"], 0.0), b["positive_share"]) for b in bins]
    how = f"every document scored by a scorer that had not seen it ({report['folds']} folds)" if report["folds"] else ""
    rows = "".join(
        f'<tr><td class="number">{b["from"]:.3f} – {b["to"]:.3f}</td><td class="number">{b["documents"]}</td>'
        f'<td class="number">{b["mean_score"]:.3f}</td><td class="number">{b["positive_share"]:.1%}</td></tr>'
        for b in bins
    )
    return (
        f"<h2>Against the labels</h2><p class='soft'>{escape(how)}</p><div class='plots'>"
        f"<figure>{curve(rated['roc'], 'negatives kept', 'positives kept')}<figcaption>ROC curve, area "
        f"{rated['auc']:.3f}</figcaption></figure><figure>"
        f"{curve(dots, 'mean score', 'share of positives', dots=True, high=high or 1.0)}<figcaption>Reliability: "
        "documents in groups of equal size, by score; on the diagonal, a score is a probability</figcaption></figure>"
        "</div><div class='wide'><table><tr><th>scores</th><th>documents</th><th>mean score</th><th>positive</th></tr>"
        f"{rows}</table></div>"
    )


def _sources(report: dict[str, Any]) -> str:
    figures = []
    for source, found in report["sources"].items():
        told = (
            f"{source or '(no source)'}: {found['documents']} documents, mean {found['mean']:.3g}, "
            f"{found['kept']:.0%} at or above the threshold"
        )
        plot = histogram(report["bins"], found["histogram"], report["threshold"], "score")
        figures.append(f"<figure>{plot}<figcaption>{escape(told)}</figcaption></figure>")
    return f'<h2>Scores by source</h2><div class="plots">{"".join(figures)}</div>'


def _samples(title: str, samples: list[dict[str, Any]]) -> str:
    if not samples:
        return ""
    rows = "".join(
        f'<tr><td class="number">{s["score"]:.3f}</td>'
        f'<td class="number">{"" if s["label"] is None else format(s["label"], "g")}</td>'
        f'<td class="text">{escape(s["id"])}</td><td class="text">{escape(s["text"])}'
        + (f'<br><span class="soft">{escape(s["rationale"])}</span>' if s["rationale"] else "")
        + "</td></tr>"
        for s in samples
    )
    head = "<tr><th>score</th><th>label</th><th>document</th><th>text</th></tr>"
    return f'<h2>{escape(title)}</h2><div class="wide"><table>{head}{rows}</table></div>'
