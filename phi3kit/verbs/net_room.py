"""Whether a net's weights fit into this machine at all, estimated before they are made."""

from __future__ import annotations

import os
from typing import Any

from phi3kit.errors import UserError


def check_room(dims: Any, strategy: Any = None) -> None:
    """Raise `UserError` where half of a net of these sizes is larger already than the machine's memory.

    Args:
        dims: a recipe's ``net.dims``.
        strategy: of the trainer; one that shards the net makes it nowhere as a whole.
    """
    if getattr(strategy, "class_path", "").endswith(".ModelParallelStrategy"):
        return
    width = dims.hidden_size
    inner = dims.intermediate_size or 8 * width // 3
    groups = (dims.n_kv_heads or dims.n_heads) / dims.n_heads
    numbers = 2 * dims.vocab_size * width + dims.n_layers * (2 * width**2 * (1 + groups) + 3 * width * inner)
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 2 * numbers > here:  # half of its fp32 weights
        raise UserError(
            f"a net of these net.dims has about {numbers:,.0f} numbers, {4 * numbers / 1e9:,.0f} GB of weights, and "
            f"this machine has {here / 1e9:,.0f} GB of memory; make hidden_size ({width:,}), n_layers or vocab_size "
            "smaller"
        )
