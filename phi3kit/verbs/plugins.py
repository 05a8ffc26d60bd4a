"""``phi3kit plugins``: what is installed, from metadata; ``--check`` imports it and judges it."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence

from phi3kit import plugins


def main(arguments: list[str]) -> int:
    """List the plugins; with ``--check`` also their components and faults. Returns 1 if there are faults."""
    parser = argparse.ArgumentParser(
        prog="phi3kit plugins",
        allow_abbrev=False,
        description="List installed plugins: distributions and their entry points.",
    )
    parser.add_argument(
        "--check", action="store_true", help="import them; list their components and what is wrong with them"
    )
    check = parser.parse_args(arguments).check
    print("\n".join(_table([_row(offer) for offer in plugins.listing()])))
    if not check:
        return 0
    registry = plugins.load()
    print("\n".join(_components(registry)))
    faults = [f"  {fault}" for fault in registry.faults]
    print("\n".join([f"\nfaults: {len(faults)}", *faults]))
    return 1 if faults else 0


def _row(offer: plugins.Offer) -> tuple[str, str, str]:
    return offer.distribution, offer.version, f"{offer.entry_point.name} = {offer.entry_point.value}"


def _components(registry: plugins.Registry) -> list[str]:
    lines = []
    for family in sorted({c.family.__name__ for c in registry.components}):
        among = sorted((c for c in registry.components if c.family.__name__ == family), key=lambda c: c.name)
        rows = [(f"  {c.name}", f"{c.distribution} {c.version}", _one_line(c.cls)) for c in among]
        lines += ["", family, *_table(rows)]
    return lines


def _one_line(cls: type) -> str:
    """The first line of a class's docstring."""
    return (inspect.getdoc(cls) or "").split("\n", 1)[0]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
