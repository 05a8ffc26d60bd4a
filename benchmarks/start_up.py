"""How long the commands that a person waits for take to answer, beside importing torch and lightning alone.

  python benchmarks/start_up.py [--rounds 5]

Every command in a fresh process, in turns; wall clock and processor time, medians with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import lightning": ["-c", "from phi3kit import torchvision_ops; torchvision_ops.declare(); import lightning"],
    "phi3kit --help": ["-m", "phi3kit.cli", "--help"],
    "phi3kit plugins": ["-m", "phi3kit.cli", "plugins"],
    "phi3kit plugins --check": ["-m", "phi3kit.cli", "plugins", "--check"],
    "phi3kit fit --help": ["-m", "phi3kit.cli", "fit", "--help"],
    "phi3kit fit, a wrong key": ["-m", "phi3kit.cli", "fit", "--no_such", "3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            taken[name].append(timed(arguments))
    print("| | wall clock, s | processor time, s |\n|---|---|---|")
    for name, found in taken.items():
        wall, processor = map(list, zip(*found, strict=True))
        print(f"| {name} | {spread(wall)} | {spread(processor)} |")


def timed(arguments: list[str]) -> tuple[float, float]:
    """Wall clock and processor time of Python with these arguments."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}–{max(values):.2f}]"


if __name__ == "__main__":
    main()
