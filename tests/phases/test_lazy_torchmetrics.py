"""torchmetrics is imported as far as lightning needs it, and whole as soon as anyone asks for more."""

from __future__ import annotations

import subprocess
import sys

import pytest


def said(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_training_imports_no_metrics_until_they_are_asked_for():
    script = """
import sys, torch, phi3kit.phases
heavy = ("torchmetrics.functional", "scipy.signal", "transformers", "torchvision")
print([name for name in heavy if name in sys.modules])
from torchmetrics import Accuracy, Metric
from lightning.pytorch.utilities.types import Metric as Same
assert Metric is Same and isinstance(Accuracy(task="binary"), Metric)
import torchmetrics
print(float(torchmetrics.functional.accuracy(torch.tensor([1, 0]), torch.tensor([1, 1]), task="binary")))
print(type(torchmetrics).__name__)
"""
    assert said(script).splitlines() == ["[]", "0.5", "module"]


@pytest.mark.parametrize("name", ["Metric", "NoSuchMetric"])
def test_a_release_that_does_not_go_along_is_imported_as_ever(name):
    """Here one whose modules lack what is taken from them: nothing of the attempt stays."""
    script = f"""
import sys
from phi3kit import lazy_torchmetrics, torchvision_ops
torchvision_ops.declare()
lazy_torchmetrics.LIGHT["{name}"] = "torchmetrics.nowhere"
assert lazy_torchmetrics.declare() is False
assert not [module for module in sys.modules if module.startswith("torchmetrics")]
import torchmetrics
print(type(torchmetrics).__name__, torchmetrics.functional.__name__)
"""
    assert said(script) == "module torchmetrics.functional"


def test_a_package_imported_already_is_left_alone():
    script = """
from phi3kit import lazy_torchmetrics, torchvision_ops
torchvision_ops.declare()
import torchmetrics
print(lazy_torchmetrics.declare())
"""
    assert said(script) == "False"
