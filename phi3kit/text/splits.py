"""What the splits that data sets are published in mean here."""

from __future__ import annotations

from typing import Any

TRAIN, HELDOUT = "train", "heldout"
MEANS_TRAIN = ("train", "training")
MEANS_HELDOUT = ("heldout", "held_out", "holdout", "validation", "valid", "val", "dev", "test", "eval", "evaluation")


def split_name(given: Any) -> str | None:
    """ "train" or "heldout" for the usual names of either ("validation", "test_sft"), other names as they are.

    None where there is none.
    """
    if not isinstance(given, str) or not given.strip():
        return None
    told = given.strip().lower().replace("-", "_")
    for names, split in ((MEANS_TRAIN, TRAIN), (MEANS_HELDOUT, HELDOUT)):
        if told in names or told.startswith(tuple(f"{name}_" for name in names)):
            return split
    return given.strip()
