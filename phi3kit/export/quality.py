"""What quantization cost, on held-out text: the quantized net and its program beside the float net.

The float net passes by part by part (`float_reference`), so that its size does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phi3kit.export.program import Program
from phi3kit.measures import kl_divergence, perplexity, token_log_probs, top1_agreement
from phi3kit.model.engine import Engine

FLOAT = "float"


class Row(NamedTuple):
    """The logits of one row of text, [T - 1, V] each: the float net's, and each other's by name."""

    labels_T: Tensor
    wanted_TV: Tensor
    got_TV: Mapping[str, Tensor]


@torch.inference_mode()
def compare_on_text(
    wanted: Iterable[Tensor], program: Program | None, engine: Engine, rows: Sequence[Tensor]
) -> dict[str, Any]:
    """Perplexity, KL divergence to the float net (nats per token) and top-1 agreement with it, by column.

    Args:
        wanted: the float net's logits of each row, [T, V].
        program: the quantized net, run eagerly: the column "quantized"; None leaves it out.
        engine: the lowered program, which reads each row token by token: the column "program".
        rows: ids, [T] each, at least two.
    """
    counts, sums = 0, dict[tuple[str, str], float]()
    for logits_TV, row_T in zip(wanted, rows, strict=True):
        row = _row(logits_TV, program, engine, row_T)
        count = len(row.labels_T)
        counts += count
        for key, mean in _means(row).items():
            sums[key] = sums.get(key, 0.0) + mean * count
    means = {key: total / counts for key, total in sums.items()}
    return {
        "tokens": counts,
        "perplexity": {column: perplexity(mean) for (what, column), mean in means.items() if what == "loss"},
        "kl_to_float": {column: mean for (what, column), mean in means.items() if what == "kl"},
        "top1_agreement": {column: mean for (what, column), mean in means.items() if what == "top1"},
    }


def _row(logits_TV: Tensor, program: Program | None, engine: Engine, row_T: Tensor) -> Row:
    ids = row_T.tolist()
    got = {} if program is None else {"quantized": program.every_logit(ids[:-1])}
    engine.reset()
    got["program"] = torch.stack([engine.ingest([id]) for id in ids[:-1]])
    engine.reset()
    return Row(row_T[1:], logits_TV[:-1], got)


def _means(row: Row) -> dict[tuple[str, str], float]:
    """Over the row's tokens: (measure, column) -> number."""
    means = {("loss", FLOAT): -float(token_log_probs(row.wanted_TV, row.labels_T).mean())}
    for column, got_TV in row.got_TV.items():
        means["loss", column] = -float(token_log_probs(got_TV, row.labels_T).mean())
        means["kl", column] = float(kl_divergence(row.wanted_TV, got_TV))
        means["top1", column] = float(top1_agreement(row.wanted_TV, got_TV))
    return means
