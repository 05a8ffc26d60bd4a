"""What quantization cost, on held-out text: the quantized net and its program beside the float net.

The three are never in memory together: the float net passes by part by part (`float_reference`) and leaves its logits
on disk; the others are then compared with those one after the other, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.export.program import Program
from phi3kit.export.readings import Reading, read
from phi3kit.export.released import released
from phi3kit.measures import kl_divergence, perplexity, token_log_probs, top1_agreement
from phi3kit.model.engine import Engine
from phi3kit.model.tensor_file import Form, create, header

FLOAT = "float"
Logits = Callable[[], Iterable[Tensor]]  # begins to compute: of each row, [T - 1, V]


def kept(logits: Iterable[Tensor], rows: Sequence[Tensor], vocab_size: int, file: Path) -> list[Tensor]:
    """The same logits, [T, V] fp32 for each row, being pages of a file, of which the system takes back what it needs.

    Args:
        logits: of each row; only one is held.
        rows: ids, [T] each.
        vocab_size: V.
        file: a new one. Raises `UserError` where the disk has no room for it.
    """
    forms = {str(number): Form(torch.float32, (len(row_T), vocab_size)) for number, row_T in enumerate(rows)}
    try:
        stored = create(file, header(forms))
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; free some space and export again") from error
    for name, logits_TV in zip(forms, logits, strict=True):
        stored.fill(stored.tensor(name), logits_TV)
    stored.forget()
    return [stored.tensor(name) for name in forms]


def of_net(program: Program, rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """The quantized net's logits, run eagerly, of each row but its last token, [T - 1, V]."""
    return read(program, [Reading(row_T[:-1].tolist()) for row_T in rows])


def of_engine(open_engine: Callable[[], Engine], rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """The logits of a lowered program, which reads each row but its last token, one by one, [T - 1, V]."""
    engine = open_engine()
    for row_T in rows:
        engine.reset()
        yield torch.stack([engine.ingest([id]) for id in row_T[:-1].tolist()])


@torch.inference_mode()
def compare_on_text(wanted: Sequence[Tensor], others: Mapping[str, Logits], rows: Sequence[Tensor]) -> dict[str, Any]:
    """Perplexity, KL divergence to the float net (nats per token) and top-1 agreement with it, by column.

    Args:
        wanted: the float net's logits of each row, [T, V].
        others: what is compared with it, by column; what one of them opens is released before the next begins.
        rows: ids, [T] each, at least two.
    """
    itself = _means(wanted, lambda: (wanted_TV[:-1] for wanted_TV in wanted), rows)
    found = {column: released(partial(_means, wanted, logits, rows)) for column, logits in others.items()}
    return {
        "tokens": sum(len(row_T) - 1 for row_T in rows),
        "perplexity": {column: perplexity(means.loss) for column, means in {FLOAT: itself, **found}.items()},
        "kl_to_float": {column: means.kl for column, means in found.items()},
        "top1_agreement": {column: means.top1 for column, means in found.items()},
    }


class Means(NamedTuple):
    """Over all tokens: loss and KL to the float net in nats, agreement with it as a share."""

    loss: float
    kl: float
    top1: float


def _means(wanted: Sequence[Tensor], logits: Logits, rows: Sequence[Tensor]) -> Means:
    sums, tokens = [0.0, 0.0, 0.0], 0
    for wanted_TV, got_TV, row_T in zip(wanted, logits(), rows, strict=True):
        wanted_TV, labels_T = wanted_TV[:-1], row_T[1:]
        loss = -float(token_log_probs(got_TV, labels_T).mean())
        of_row = (loss, float(kl_divergence(wanted_TV, got_TV)), float(top1_agreement(wanted_TV, got_TV)))
        tokens += len(labels_T)
        sums = [total + mean * len(labels_T) for total, mean in zip(sums, of_row, strict=True)]
    return Means(*(total / tokens for total in sums))
