"""A run folder -> the net it trained, rebuilt from the run's own recipe."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from phi3kit import bundle, plugins
from phi3kit.errors import UserError, nearest
from phi3kit.model import weights
from phi3kit.model.decoder import Decoder
from phi3kit.recipe import class_paths
from phi3kit.recipe_bounds import check
from phi3kit.records import Dims

T = TypeVar("T")


def net_section(run: Path) -> dict[str, Any]:
    """The ``net:`` of a run's recipe."""
    check_run(run)
    config = run / "config.yaml"
    content = yaml.safe_load(config.read_text())
    if not isinstance(content, dict) or "net" not in content:
        raise UserError(f"{config} describes no net; is {run} the folder of a training run?")
    for path in class_paths(content["net"]):
        if missing := plugins.missing_plugin(path, config.read_text()[:4000]):
            raise UserError(f"{config}: {missing}")
    return content["net"]


def check_run(folder: Path) -> None:
    """Raise `UserError` where a folder is no run, with what it is instead."""
    if not folder.is_dir():
        raise UserError(f"there is no run at {folder}")
    if bundle.is_bundle(folder):
        raise UserError(f"{folder} is a bundle, not a run; give the run that it was exported from")
    if not (folder / "config.yaml").is_file():
        if (folder / "config.json").is_file():
            raise UserError(
                f"{folder} is a public checkpoint folder, not a run; `phi3kit convert {folder} runs/{folder.name}` "
                "makes one"
            )
        raise UserError(f"{folder} is not a run folder: it has no config.yaml")


def build_net(section: dict[str, Any], device: str | None = None) -> Decoder:
    """A net with fresh weights from a recipe's ``net:`` section.

    Args:
        section: as a recipe has it.
        device: where its parameters are made; "meta" makes none, only their names and shapes.
    """
    with torch.device(device) if device else contextlib.nullcontext():
        return _parsed(section, lambda parser, config: parser.instantiate(config).net)


def check_names(section: dict[str, Any]) -> None:
    """Raise `UserError` where a ``net:`` section has a key that no net has, also where nothing is built from it."""
    known = {"net": set(inspect.signature(Decoder).parameters), "net.dims": {field.name for field in fields(Dims)}}
    for at, inside in (("net", section), ("net.dims", section.get("dims") or {})):
        for name in inside:
            if (plain := str(name).removesuffix("+")) not in known[at]:
                raise UserError(f"there is no key {at}.{plain}{nearest(plain, known[at], f'{at}.')}")


def whole_section(section: dict[str, Any]) -> dict[str, Any]:
    """A ``net:`` section with every default spelled out and components under their short names.

    Two sections that build the same net are equal in this form.
    """
    text = _parsed(section, lambda parser, config: parser.dump(config, skip_none=False))
    return _short_names(yaml.safe_load(text)["net"])


def _parsed(section: dict[str, Any], use: Callable[[ArgumentParser, Any], T]) -> T:
    for path in class_paths(section):
        if missing := plugins.missing_plugin(path):
            raise UserError(f"this net cannot be built: {missing}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Decoder, "net")
    try:
        config = parser.parse_object({"net": copy.deepcopy(section)})
        check(parser, config, {"net": Decoder})
        return use(parser, config)
    except ArgumentError as error:
        raise UserError(f"cannot rebuild the net from its recipe: {str(error).splitlines()[-1].strip()}") from error


def _short_names(content: Any) -> Any:
    if isinstance(content, list):
        return [_short_names(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {
        key: value.rpartition(".")[-1] if key == "class_path" else _short_names(value) for key, value in content.items()
    }


def load_run(run: Path, dtype: torch.dtype | None = None) -> Decoder:
    """The net of a finished run, in evaluation mode; its weights are the files' pages, read where they are needed.

    Args:
        run: its folder.
        dtype: what to convert the weights to; None: they stay what they are stored as.
    """
    section = net_section(run)
    net = build_net(section, "meta")
    weights.assign_to(net, run, dtype)
    if _something_left_on_meta(net):  # a component that makes tensors of its own when it is built
        net = build_net(section)
        weights.assign_to(net, run, dtype)
    return net.eval()


def _something_left_on_meta(net: Decoder) -> bool:
    own = (value for module in net.modules() for value in vars(module).values() if isinstance(value, torch.Tensor))
    return any(tensor.is_meta for tensor in (*net.parameters(), *net.buffers(), *own))
