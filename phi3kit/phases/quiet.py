"""Silences what lightning and its companions print about themselves; what concerns the run still shows."""

from __future__ import annotations

import logging
import warnings

CHATTY = ("lightning.pytorch", "lightning.fabric", "torchao", "torch.utils._pytree", "litdata")


def hush() -> None:
    """Raise the chatty loggers' thresholds (their children inherit them) and drop their deprecation notes."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    import lightning.pytorch  # noqa: F401  (sets its own loggers' levels when first imported)

    for name in [n for n in logging.root.manager.loggerDict if n.startswith(CHATTY)]:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
