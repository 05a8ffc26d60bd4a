"""Whether this tree computes the same bytes as another commit: chunks, weights, losses and the exported program.

  python benchmarks/same_bytes.py COMMIT [--steps 3]

Walks pocket-phi's road with so few steps in both trees, each with its own recipes, and compares the files that the
steps leave. What may differ is left out: recipes and manifests (class paths, hashes of code), reports (times), and
speeds in `metrics.csv`. Exits with 1 where anything else differs. Takes about three minutes for each tree.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PLUGINS = ("phi3kit-blocksparse", "phi3kit-moe", "phi3kit-vision")
COMPARED = (
    ".bin",
    ".jsonl",
    ".safetensors",
    ".pte",
    ".csv",
    "tokenizer.json",
    "tokenizer_config.json",
    "documents.txt",
)
SPEED = "tokens_per_second"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        other = Path(name) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", other, options.commit], cwd=HERE, check=True)
        try:
            then = walk(other, Path(name) / "then", options.steps)
            now = walk(HERE, Path(name) / "now", options.steps)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=HERE, check=True)
    faults = 0
    for file in sorted(then | now):
        same = then.get(file) == now.get(file)
        faults += not same
        print(
            "same   " if same else "DIFFERS", file, "" if file in now else "(missing)", "" if file in then else "(new)"
        )
    print(f"{len(then | now)} files, {faults} differ")
    return min(faults, 1)


def walk(tree: Path, folder: Path, steps: int) -> dict[str, str]:
    """The hash of each file that a tree's shortened road leaves, by its path."""
    shutil.copytree(tree / "recipes", folder / "recipes")
    for recipe in sorted((folder / "recipes" / "pocket").glob("[0-9]-*.yaml")):
        verb = next(line.split()[1] for line in recipe.read_text().splitlines() if line.startswith("verb:"))
        print(f"{folder.name}: {recipe.stem}", flush=True)
        few = ["--trainer.max_steps", str(steps), "--checkpoint_every", "0"] if verb == "fit" else []
        run(tree, folder, [verb, "--recipe", str(recipe), *few])
    files = (path for part in ("data", "runs", "bundles") for path in (folder / part).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): digest(path) for path in files if path.name.endswith(COMPARED)}


def run(tree: Path, folder: Path, arguments: list[str]) -> None:
    """Run one verb with a tree's code, and show what it said where it fails."""
    paths = [tree, *(tree / "plugins" / plugin / "src" for plugin in PLUGINS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-m", "phi3kit.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tree}: {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")


def digest(path: Path) -> str:
    """The sha256 of a file's content, that of `metrics.csv` without speeds."""
    content = path.read_bytes()
    if path.name == "metrics.csv":
        rows = [{k: v for k, v in row.items() if k != SPEED} for row in csv.DictReader(content.decode().splitlines())]
        content = repr(rows).encode()
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
