"""What scorers that learn two sides share: labels on both of them, a probability, and the error of an untrained one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phi3kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from phi3kit.families import Scorer


def sides(texts: Sequence[str], labels: Sequence[float], positive: float) -> np.ndarray:
    """1 where a label is `positive` or more, 0 elsewhere, [N] int64.

    Raises:
        UserError: no labels, or all of them on one side: there is nothing to tell apart.
    """
    import numpy as np

    assert len(texts) == len(labels), f"{len(texts)} texts, {len(labels)} labels"
    if not len(labels):
        raise UserError("there are no labels to learn from; label some documents first")
    wanted_N = (np.asarray(labels, dtype=float) >= positive).astype(np.int64)
    if wanted_N.min() == wanted_N.max():
        side = "at or above" if wanted_N[0] else "below"
        spread = f"{min(labels):g}" if min(labels) == max(labels) else f"{min(labels):g} to {max(labels):g}"
        hint = " (labels of 0 and 1? set the annotator's `largest: 1`)" if 0 < max(labels) <= 1 < positive else ""
        raise UserError(
            f"all {len(labels)} labels ({spread}) are {side} {positive:g}, so there is nothing to tell apart; "
            f"label other documents too, or change `positive`{hint}"
        )
    return wanted_N


def logistic(total: float) -> float:
    """The probability that belongs to a sum of evidence (numpy's exp may differ by how many are computed at once)."""
    return 1 / (1 + math.exp(-max(min(total, 700.0), -700.0)))


def unfitted(scorer: Scorer) -> UserError:
    """The error of a scorer that was not trained."""
    return UserError(
        f"{type(scorer).__name__} is not trained; train it with `phi3kit score fit`, then name its folder: "
        "{class_path: SavedScorer, init_args: {path: FOLDER}}"
    )
