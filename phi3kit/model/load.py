"""A run folder -> the net it trained, rebuilt from the run's own recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from phi3kit import plugins
from phi3kit.errors import UserError
from phi3kit.model import weights
from phi3kit.model.decoder import Decoder


def net_section(run: Path) -> dict[str, Any]:
    """The ``net:`` of a run's recipe."""
    config = run / "config.yaml"
    if not config.is_file():
        raise UserError(f"{run} is not a run folder: it has no config.yaml")
    content = yaml.safe_load(config.read_text())
    if not isinstance(content, dict) or "net" not in content:
        raise UserError(f"{config} describes no net; is {run} the folder of a training run?")
    return content["net"]


def build_net(section: dict[str, Any]) -> Decoder:
    """A net with fresh weights from a recipe's ``net:`` section."""
    plugins.load()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Decoder, "net")
    try:
        return parser.instantiate(parser.parse_object({"net": section})).net
    except ArgumentError as error:
        raise UserError(f"cannot rebuild the net from its recipe: {str(error).splitlines()[-1].strip()}") from error


def load_run(run: Path) -> Decoder:
    """The net of a finished run, in evaluation mode."""
    net = build_net(net_section(run))
    weights.load_into(net, run)
    return net.eval()
