"""Which published ExecuTorch runtimes have every operator and delegate of a `.pte`.

`operators.json` holds the names of each target and minor version: Android's AARs and iOS's frameworks, 1.1 to 1.4. How
it is made, and from what, is in `mobile/operators.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from phi3kit.native_output import silenced

HEAD = 64  # bytes that hold the header
FILE = Path(__file__).with_name("operators.json")


@functools.cache
def published() -> dict[str, dict[str, frozenset[str]]]:
    """Names of operators and delegates by target ("android") and minor version ("1.4")."""
    data = json.loads(FILE.read_text())
    found: dict[str, dict[str, frozenset[str]]] = {}
    for target, about in data["targets"].items():
        names = frozenset(about["delegates"])
        found[target] = {}
        for version in data["libraries"][about["libraries"][0]]:
            names |= {name for library in about["libraries"] for name in data["libraries"][library][version]}
            found[target][version] = names
    return found


def used(model: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Operators and delegates that any method of a `.pte` calls."""
    plans = _plans(model)
    operators = (f"{op.name}.{op.overload}".rstrip(".") for plan in plans for op in plan.operators)
    return frozenset(operators), frozenset(delegate.id for plan in plans for delegate in plan.delegates)


def delegate_calls(model: Path) -> dict[str, int]:
    """How many pieces of each method of a `.pte` a delegate computes; constant methods have none and are left out."""
    return {plan.name: len(plan.delegates) for plan in _plans(model) if plan.delegates}


def _plans(model: Path) -> list[Any]:
    """Its methods."""
    with silenced():
        from executorch.exir._serialize._program import deserialize_pte_binary

        return deserialize_pte_binary(_graphs(model)).program.execution_plan


def _graphs(model: Path) -> bytes:
    """The beginning of a `.pte`, with its graphs, as a file without weights, which may be gigabytes.

    Eight bytes in, a header says "eh00", its own length (4 bytes), the size of the graphs and where the weights begin
    (8 bytes each, little-endian; ExecuTorch, docs/source/pte-file-format.md). Weights at 0 means there are none.
    """
    with model.open("rb") as file:
        head = file.read(HEAD)
        if head[8:12] != b"eh00":
            return head + file.read()
        size = int.from_bytes(head[16:24], "little")
        return head[:24] + bytes(8) + head[32:] + file.read(size - HEAD)


def check_operators(model: Path, minimum: str) -> dict[str, Any]:
    """Look all of a program's names up in every target's sets.

    Args:
        model: the `.pte`.
        minimum: version of the oldest runtime that its bundle declares, "1.4.1"; newer ones than the lists have are
            looked up in the newest list.

    Returns:
        ``missing``: by target and version, what it lacks; ``oldest``: by target, the oldest version that has all, None
        where none has. A fault is what no target has of the declared version, or what a target with all the delegates
        lacks.
    """
    operators, delegates = used(model)
    return compare(operators, delegates, minimum) | {"operators": len(operators), "delegates": sorted(delegates)}


def compare(operators: Iterable[str], delegates: Iterable[str], minimum: str) -> dict[str, Any]:
    """`check_operators` of names that are known."""
    names = frozenset(operators) | frozenset(delegates)
    missing = {
        target: {version: sorted(names - known) for version, known in versions.items()}
        for target, versions in published().items()
    }
    oldest = {target: _oldest(lacks) for target, lacks in missing.items()}
    able = {target: lacks for target, lacks in missing.items() if not set(delegates) & set(lacks[_newest(lacks)])}
    faults = [
        f"{name} is not in {target} {version}, the oldest runtime that the bundle declares"
        for target, lacks in able.items()
        for version in [_declared(minimum, lacks)]
        for name in lacks[version]
    ]
    if not able:
        faults.append(f"no published runtime has all of the delegates {', '.join(sorted(delegates))}")
    return {"minimum": minimum, "targets": sorted(able), "missing": missing, "oldest": oldest, "faults": faults}


def _oldest(lacks: Mapping[str, list[str]]) -> str | None:
    return min((version for version, names in lacks.items() if not names), key=_order, default=None)


def _newest(versions: Iterable[str]) -> str:
    return max(versions, key=_order)


def _declared(minimum: str, versions: Iterable[str]) -> str:
    """The listed version that a declared one stands for. An older one than all lists is the oldest list."""
    known = sorted(versions, key=_order)
    return next((version for version in reversed(known) if _order(version) <= _order(minimum)[:2]), known[0])


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".") if part.isdigit())
