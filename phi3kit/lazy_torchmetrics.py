"""Lets lightning import without the two hundred metrics it never uses, and what they import in turn.

``import lightning`` needs three names of torchmetrics, but executing torchmetrics' ``__init__`` imports every metric,
and with them scipy, torchvision and transformers where those are installed: about half of the time `phi3kit fit
--help` took. Here the package stands in `sys.modules` unexecuted, with those names; asked for any other, it executes
itself and is from then on what it always is. Where a release of torchmetrics does not go along, nothing is changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAME = "torchmetrics"
LIGHT = {  # what lightning asks for while it is imported, and the module that has it, in the order of importing
    "__version__": "torchmetrics.__about__",
    "check_forward_full_state_property": "torchmetrics.utilities",
    "Metric": "torchmetrics.metric",
    "MetricCollection": "torchmetrics.collections",
}


def declare() -> bool:
    """Put the unexecuted package in place, unless torchmetrics is imported already or absent; True if done."""
    if NAME in sys.modules:
        return False
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.loader is None:
        return False
    package = sys.modules[NAME] = Unexecuted(NAME, spec)
    try:
        for name, module in LIGHT.items():
            setattr(package, name, getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name == NAME or name.startswith(f"{NAME}.")]:
            del sys.modules[name]
        return False
    return isinstance(package, Unexecuted)


class Unexecuted(ModuleType):
    """A package whose ``__init__`` runs when it is asked for a name it has not."""

    def __init__(self, name: str, spec: ModuleSpec) -> None:
        super().__init__(name)
        self.__spec__, self.__loader__, self.__package__ = spec, spec.loader, name
        self.__path__ = spec.submodule_search_locations or []
        self.__file__ = spec.origin
        self._logger = logging.getLogger(name)  # its modules log with the package's

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # first, so that it cannot ask itself
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)
