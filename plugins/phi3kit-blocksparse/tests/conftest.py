"""Importable lightning, and no network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")

from phi3kit import torchvision_ops

torchvision_ops.declare()
