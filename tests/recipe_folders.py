"""The recipes as tests see them: their folders, the plugins these need, and what only a user's config.json knows."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from phi3kit import recipe as recipes
from phi3kit.records import Dims

RECIPES = Path(__file__).parents[1] / "recipes"
FOLDERS = sorted(p for p in RECIPES.iterdir() if p.is_dir())
NEEDS = {
    "phi3-small": "phi3kit-blocksparse",
    "phi35-moe": "phi3kit-moe",
    "phi-mini-moe": "phi3kit-moe",
    "phi-tiny-moe": "phi3kit-moe",
    "phi3-vision": "phi3kit-vision",
    "phi35-vision": "phi3kit-vision",
}
LISTS = ("short_factor", "long_factor")


def steps(folder: Path) -> list[Path]:
    """A folder's numbered recipes."""
    return sorted(folder.glob("[0-9]*.yaml"))


def need_plugin(folder: Path) -> None:
    """Skip where the folder's plugin is not installed."""
    plugin = NEEDS.get(folder.name)
    if plugin is None:
        return
    try:
        importlib.metadata.distribution(plugin)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the plugin {plugin}: pip install plugins/{plugin}")


def content(*files: Path) -> dict[str, Any]:
    """The files' layers, merged."""
    return recipes.merge([layer for file in files for layer in recipes.read_layers(file)])


def lacks_factors(merged: dict[str, Any]) -> bool:
    """Whether the factor lists must come from the user's config.json."""
    position = merged.get("net", {}).get("position", {})
    return position.get("class_path") == "LongRoPE" and not set(LISTS) <= position["init_args"].keys()


def with_factors(files: list[Path], tmp_path: Path) -> list[Path]:
    """The files, and where they leave the factor lists out a layer that makes them up, as `phi3kit convert` would."""
    merged = content(*files)
    if not lacks_factors(merged):
        return files
    count = Dims(**merged["net"]["dims"]).head_width // 2
    layer = tmp_path / "factors.yaml"
    lists = {"short_factor": [1.0] * count, "long_factor": [1.0 + i / 8 for i in range(count)]}
    layer.write_text(yaml.safe_dump({"net": {"position": {"init_args": lists}}}))
    return [*files, layer]
