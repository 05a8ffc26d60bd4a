"""``phi3kit env``: versions, devices, plugins and what is missing: what a bug report needs."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from phi3kit import __version__, plugins


def main(arguments: list[str]) -> int:
    """Print the report. Returns 1 if something phi3kit requires is missing or of another version."""
    argparse.ArgumentParser(
        prog="phi3kit env", allow_abbrev=False, description="Print versions and devices, for a bug report."
    ).parse_args(arguments)
    faults = list(unmet())
    for title, rows in (
        ("phi3kit", _house()),
        ("requirements", _requirements()),
        ("devices", _devices()),
        ("plugins", [(o.distribution, o.version) for o in plugins.listing()]),
        ("missing or mismatching", faults),
    ):
        rows = rows or [("none", "")]
        width = max(len(name) for name, _ in rows)
        print(f"{title}\n" + "\n".join(f"  {name:<{width}}  {value}".rstrip() for name, value in rows))
    return 1 if faults else 0


def unmet() -> Iterator[tuple[str, str]]:
    """(distribution, what is wrong) for each requirement of phi3kit that this environment does not meet."""
    if _version("phi3kit") is None:
        yield "phi3kit", "is not installed, only importable: its components are not found; pip install it"
    for name, wanted, installed in _pins():
        if installed is None:
            yield name, f"is not installed; phi3kit requires {name}{wanted}"
        elif not _fits(wanted, installed):
            yield name, f"is {installed}; phi3kit requires {name}{wanted}"


def _house() -> list[tuple[str, str]]:
    import phi3kit

    return [
        ("version", __version__),
        ("from", str(Path(phi3kit.__file__).parent)),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("platform", platform.platform()),
    ]


def _requirements() -> list[tuple[str, str]]:
    return [(name, f"{installed or '-':<16} {wanted}".rstrip()) for name, wanted, installed in _pins()]


def _pins() -> Iterator[tuple[str, str, str | None]]:
    """(distribution, versions wanted, version installed) of each requirement, without the extras."""
    from packaging.requirements import Requirement

    for line in (requires("phi3kit") or []) if _version("phi3kit") else []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name, str(requirement.specifier), _version(requirement.name)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _fits(wanted: str, installed: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(installed, prereleases=True)  # ==2.13.0 takes 2.13.0+cpu


def _devices() -> list[tuple[str, str]]:
    rows = [("cpu", _cpu()), ("cores", str(_cores())), ("memory", _memory())]
    try:
        import torch
    except ImportError as error:
        return [*rows, ("cuda", f"unknown: torch does not import ({error})")]
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    rows.append(("cuda", ", ".join(names) or f"none (torch {torch.__version__})"))
    rows.append(("mps", "yes" if torch.backends.mps.is_available() else "none"))
    return rows


def _cores() -> int | None:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    lines = info.read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return "unknown"
