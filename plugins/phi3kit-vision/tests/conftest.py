"""Shared by the plugin's tests: importable lightning and transformers, the optional real data, small parts."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from phi3kit import torchvision_ops

torchvision_ops.declare()

from phi3kit_vision.encoder import CLIPVision  # noqa: E402

SMALL = {"hidden": 32, "layers": 3, "heads": 2, "intermediate": 48, "image": 28, "patch": 7}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data kept beside the checkout; tests that need it skip where it is absent."""
    folders = [parent / "shared" / "data" for parent in Path(__file__).resolve().parents]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        pytest.skip("needs the real data folder beside the checkout, which is absent here")
    return found


@pytest.fixture(scope="session")
def small() -> dict[str, int]:
    """Options of a small `CLIPVision`: views of 28 pixels, 2 x 2 rows each."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def build(small: dict[str, int]) -> partial[CLIPVision]:
    """Builds that small encoder from dims."""
    return partial(CLIPVision, **small)
