"""What the scores say about the scored set: histograms by source, and what is left at each threshold, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from phi3kit.corpus.shards import read_batches
from phi3kit.corpus.stages.write import Encoded

BINS = 20
SHARES = (0.25, 0.5, 0.75)  # of each source's documents below a threshold of the table
ROWS = 14  # of the table, at most


def distributions(encoded: Sequence[Encoded], aspects: Sequence[str]) -> dict[str, dict[str, Any]]:
    """aspect -> its histogram by source, and the table of thresholds.

    Args:
        encoded: the scored shards, without exercises.
        aspects: columns of the shards.
    """
    if not aspects:
        return {}
    sources, names, tokens, scores = _columns(encoded, aspects)
    return {
        aspect: {
            "histogram": _histogram(scores[aspect], sources, names),
            "thresholds": thresholds(scores[aspect], tokens, sources, names),
        }
        for aspect in aspects
    }


def _columns(
    encoded: Sequence[Encoded], aspects: Sequence[str]
) -> tuple[numpy.ndarray, list[str], numpy.ndarray, dict[str, numpy.ndarray]]:
    """(source of each document, names of the sources, tokens of each document, its scores)."""
    names: dict[str, int] = {}
    sources: list[numpy.ndarray] = []
    scores: dict[str, list[numpy.ndarray]] = {aspect: [] for aspect in aspects}
    for shard in encoded:
        for batch in read_batches(shard.documents.path, ["source", *aspects]):
            column = batch.column("source").to_pylist()
            sources.append(numpy.asarray([names.setdefault(name, len(names)) for name in column], numpy.int32))
            for aspect in aspects:
                scores[aspect].append(batch.column(aspect).to_numpy())
    tokens = numpy.concatenate([numpy.fromfile(shard.lengths.path, numpy.int32) for shard in encoded])
    joined = {aspect: numpy.concatenate(parts) for aspect, parts in scores.items()}
    return numpy.concatenate(sources), list(names), tokens, joined


def _histogram(scores: numpy.ndarray, sources: numpy.ndarray, names: Sequence[str]) -> dict[str, Any]:
    edges = numpy.histogram_bin_edges(scores, BINS)
    counts = {name: numpy.histogram(scores[sources == i], edges)[0].tolist() for i, name in enumerate(names)}
    return {"edges": [round(float(edge), 6) for edge in edges], "documents": counts}


def thresholds(
    scores: numpy.ndarray, tokens: numpy.ndarray, sources: numpy.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """What is left of the set at each threshold: documents and tokens, in all and by source."""
    by_name = [scores[sources == i] for i in range(len(names))]
    quantiles = [float(f"{value:.2g}") for own in by_name for value in numpy.quantile(own, SHARES)]
    tried = numpy.unique([*quantiles, float(f"{scores.min():.2g}")])
    rows = []
    for least in tried[numpy.unique(numpy.linspace(0, len(tried) - 1, ROWS).astype(int))]:
        left = scores >= least
        by_source = {name: int(tokens[left & (sources == i)].sum()) for i, name in enumerate(names)}
        rows.append(
            {"least": round(float(least), 6), "documents": int(left.sum()), "tokens": int(tokens[left].sum())}
            | {"sources": by_source}
        )
    return rows


def table(found: dict[str, dict[str, Any]]) -> str:
    """The thresholds as text for a terminal."""
    lines = []
    for aspect, about in found.items():
        rows = about["thresholds"]
        names = list(rows[0]["sources"])
        lines.append(
            f"\n{aspect} >= {'documents':>16} {'tokens':>14}  {'  '.join(f'{name[:14]:>14}' for name in names)}"
        )
        for row in rows:
            cells = "  ".join(f"{row['sources'][name]:>14,}" for name in names)
            lines.append(f"{row['least']:>{len(aspect) + 3}.3g} {row['documents']:>16,} {row['tokens']:>14,}  {cells}")
    return "\n".join(lines)
