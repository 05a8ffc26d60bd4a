#!/usr/bin/env bash
# jsonargparse 4.53.0: two config files are layered, and both give a list of components. A list of numbers in the upper file
# replaces the lower one's. A list of components of the same length does not: options that the upper file leaves out come from
# the lower file's entry, not from the class's defaults, even where the upper entry names another class that has an option of
# that name. With one entry more the list is replaced whole. Nothing is said, so a recipe layered over another can build
# a part with an option that neither its own file nor the class gives it.
# Seen: same class 7, other class 7, one entry more 1 and 1, numbers [4].
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q "jsonargparse[signatures]==4.53.0"
cat > layered.py <<'PY'
import json

from jsonargparse import ArgumentParser


class Part: ...


class Window(Part):
    def __init__(self, size: int = 1) -> None:
        self.size = size


class Plain(Part):
    def __init__(self, size: int = 1) -> None:
        self.size = size


parser = ArgumentParser(exit_on_error=False)
parser.add_argument("--config", action="config")
parser.add_argument("--parts", type=list[Part])
parser.add_argument("--numbers", type=list[int])


def layered(*files):
    return parser.parse_args([part for file in files for part in ("--config", json.dumps(file))])


def sizes(*upper):
    lower = {"parts": [{"class_path": "__main__.Window", "init_args": {"size": 7}}]}
    return [part.init_args.size for part in layered(lower, {"parts": [{"class_path": f"__main__.{u}"} for u in upper]}).parts]


found = {
    "same class": sizes("Window"),
    "other class": sizes("Plain"),
    "one entry more": sizes("Window", "Window"),
    "numbers": layered({"numbers": [1, 2, 3]}, {"numbers": [4]}).numbers,
}
print(found)
assert found == {"same class": [7], "other class": [7], "one entry more": [1, 1], "numbers": [4]}, "the behaviour has changed"
PY
venv/bin/python layered.py
