"""What a verb reached, in a few lines for people: the end of its output, and of `phi3kit run`'s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def show(report: Mapping[str, Any]) -> None:
    """Print a report's `headline` and `closing` lines."""
    for line in [*report.get("headline", []), *report.get("closing", [])]:
        print(line)
