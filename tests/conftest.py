"""Shared by all tests: importable lightning and transformers, the optional real data, quiet logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")

from phi3kit import torchvision_ops

torchvision_ops.declare()

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data kept beside the checkout; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data folder beside the checkout, which is absent here")
    return folder


@pytest.fixture
def arithmetic(tmp_path: Path) -> Path:
    """A folder with a seconds-long training recipe and its data (see arithmetic.py)."""
    from arithmetic import write_arithmetic

    return write_arithmetic(tmp_path)
