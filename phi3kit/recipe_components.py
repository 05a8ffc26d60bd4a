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


def check_options(arguments: list[str], content: dict[str, Any]) -> None:
    """Raise `UserError` where an argument of the command line names an option that its component has not.

    Args:
        arguments: the command line's, as ``--key.of.component.option``.
        content: of the recipe, which says what the components are.
    """
    for argument in arguments:
        if argument.startswith("--"):
            _check_option(argument.partition("=")[0].removeprefix("--").split("."), content)


def _check_option(parts: list[str], content: Any) -> None:
    for number, part in enumerate(parts[:-1], start=1):
        if not isinstance(content, dict) or part not in content:
            return
        content = content[part]
        path = content.get("class_path") if isinstance(content, dict) else None
        option = next((name for name in parts[number:] if name != "init_args"), "")
        if path is None or option in ("", "help", *BESIDE_A_CLASS) or (valid := options(path)) is None:
            continue
        if option.removesuffix("+") not in valid:
            at, short = ".".join(parts[:number]), path.rpartition(".")[2]
            raise UserError(f"{short} ({at}) has no option {option!r}{nearest(option, valid)}")
        content = content.get("init_args") or {}


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
