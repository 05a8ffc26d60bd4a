"""How likely a net finds texts: the negative log likelihood of rows of ids. B rows, T tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from phi3kit.measures import choice_log_likelihood
from phi3kit.model import Decoder

TOKENS_AT_ONCE = 8192
NOT_COUNTED = -100


class Row(NamedTuple):
    """Ids, of which the first `given` are only read; the others are predicted."""

    ids: list[int]
    given: int = 1


def windows(ids: Sequence[int], context: int) -> Iterator[Row]:
    """A text as rows that fit into the context: every id but the text's first is predicted once."""
    for start in range(0, max(len(ids) - 1, 0), context):
        yield Row(list(ids[start : start + context + 1]))


@torch.inference_mode()
def nats(net: Decoder, rows: Sequence[Row]) -> list[float]:
    """The negative log likelihood of each row's predicted ids, in nats; rows of like length share a forward pass."""
    device = net.embed_tokens.weight.device
    order = sorted(range(len(rows)), key=lambda n: len(rows[n].ids))
    found: dict[int, float] = {}
    while order:
        longest = len(rows[order[-1]].ids)
        numbers = order[-max(1, TOKENS_AT_ONCE // longest) :]
        del order[-len(numbers) :]
        tokens_BT = torch.zeros(len(numbers), longest, dtype=torch.int64)
        labels_BT = torch.full((len(numbers), longest), NOT_COUNTED)
        for place, number in enumerate(numbers):
            ids = torch.tensor(rows[number].ids)
            tokens_BT[place, : len(ids)] = ids
            labels_BT[place, rows[number].given : len(ids)] = ids[rows[number].given :]
        logits_BTV = net(tokens_BT[:, :-1].to(device))  # what follows a row's end is never seen by what precedes it
        likelihood_B = choice_log_likelihood(logits_BTV, labels_BT[:, 1:].to(device))
        found.update(zip(numbers, (-likelihood_B).tolist(), strict=True))
    return [found[number] for number in range(len(rows))]
