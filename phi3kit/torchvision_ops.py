"""Lets lightning and transformers import beside a torchvision whose compiled operators do not fit this torch.

litdata requires torchvision; PyPI's torchvision is built for the CUDA torch, so beside a CPU torch its
compiled operators cannot load, and importing it (as lightning and transformers do) fails with
``operator torchvision::nms does not exist``. Nothing here uses those operators: declaring their schemas is
enough for the import to go through. Where torchvision's own operators load, nothing is done.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache
def declare() -> bool:
    """Declare the two schemas torchvision registers kernels for, where its library cannot; True if done."""
    import torch

    if _own_operators_load():
        return False
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}{SCHEMA}")
    _KEPT.append(library)
    return True


_KEPT: list[object] = []  # a Library's definitions live as long as it does


def _own_operators_load() -> bool:
    """Whether torchvision's compiled operators are there and fit this torch (or torchvision is absent)."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    compiled = sorted(Path(spec.origin).parent.glob("_C.*"))
    if not compiled:
        return False
    try:
        torch.ops.load_library(str(compiled[0]))
    except OSError:
        return False
    return True
