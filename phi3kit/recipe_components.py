"""What a recipe says of its components, looked at before jsonargparse does, which blames the key above them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from phi3kit import plugins
from phi3kit.errors import UserError, nearest

BESIDE_A_CLASS = ("class_path", "init_args", "dict_kwargs")
GIVEN_BY_THE_HOUSE = ("dims", "layer", "net", "tokenizer")  # leading parameters no recipe sets


def check_components(content: dict[str, Any], name: str) -> None:
    """Raise `UserError` where a component has other keys than it may have, or options that its class has not.

    Args:
        content: of a layer.
        name: of the layer.
    """
    for at, component in components(content):
        path = component["class_path"]
        if not isinstance(path, str):
            raise UserError(f"{name}: {at}.class_path must be the name of a component, got {path!r}")
        for key in component:
            if key not in BESIDE_A_CLASS:
                raise UserError(f"{name}: {at} has no key {key!r} beside class_path{nearest(str(key), BESIDE_A_CLASS)}")
        arguments = component.get("init_args", {})
        if not isinstance(arguments, dict):
            raise UserError(f"{name}: {at}.init_args must be a mapping of options, got {arguments!r}")
        if (valid := options(path)) is None:
            continue
        for option in arguments:
            if str(option).removesuffix("+") not in valid:
                short = path.rpartition(".")[2]
                raise UserError(f"{name}: {short} ({at}) has no option {str(option)!r}{nearest(str(option), valid)}")


def components(content: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a ``class_path``, and its key without ``init_args`` and numbers."""
    if isinstance(content, dict):
        if "class_path" in content:
            yield at, content
        for key, value in content.items():
            silent = isinstance(key, int) or key in ("init_args", "dict_kwargs")
            yield from components(value, at if silent else f"{at}.{key}".removeprefix("."))
    elif isinstance(content, list):
        for value in content:
            yield from components(value, at)


def options(path: str) -> list[str] | None:
    """What a component's class may be told; None where that is not known."""
    component = plugins.load().find(path)
    cls = component.cls if component is not None else _class(path)
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.name not in GIVEN_BY_THE_HOUSE]


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
