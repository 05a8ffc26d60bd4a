"""A parsed recipe against what its constructors declare (`bounds`). A number that is not one (NaN, infinity) or that no
machine holds is refused wherever it stands."""

from __future__ import annotations

import inspect
import math
from importlib import import_module
from typing import Annotated, Any, Final, get_args

from jsonargparse import ArgumentParser, Namespace

from phi3kit.bounds import Bound, Length, of_parameter
from phi3kit.errors import UserError

LARGEST: Final = 2**63 - 1
PLAIN: Final = (int, float, bool, str)


class OutOfBounds(UserError):
    """A number that may not be there.

    Args:
        key: dotted, of the value.
        said: what is wrong with it.
    """

    def __init__(self, key: str, said: str) -> None:
        super().__init__(f"{key} {said}")
        self.key = key


# by the name of a parameter, for optimizers, which are not ours
OPTIMIZERS: Final = {
    "lr": Bound(least=0),
    "weight_decay": Bound(least=0),
    "eps": Bound(least=0),
    "momentum": Bound(least=0),
    "betas": Bound(least=0, below=1),
}


def declared(cls: Any) -> dict[str, Any]:
    """A constructor's parameters and their annotations, evaluated where that is possible without importing anything."""
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return {}
    space = vars(import_module(cls.__module__))
    return {name: _evaluated(of.annotation, space) for name, of in parameters.items() if not _sloppy(of)}


def _sloppy(parameter: inspect.Parameter) -> bool:
    """Whether the default is null although the annotation does not say so."""
    return parameter.default is None and "None" not in str(parameter.annotation)


def _evaluated(annotation: Any, space: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, space)
    except Exception:  # a name that is imported for type checking only, or whatever a stranger wrote
        return None


def check(parser: ArgumentParser, config: Namespace, classes: dict[str, Any]) -> None:
    """Raise `OutOfBounds` for the first number that is out of its bounds.

    Args:
        parser: read the recipe.
        config: what it read.
        classes: whose arguments the parser's groups are, by their key.
    """
    for action in parser._actions:
        if (annotation := getattr(action, "_typehint", None)) is not None and "." not in action.dest:
            _check_value(config.get(action.dest), annotation, action.dest)
    for key, cls in classes.items():
        if isinstance(value := config.get(key), Namespace):
            _check_arguments(value, cls, key)


def _check_arguments(arguments: Namespace, cls: Any, at: str) -> None:
    known = declared(cls)
    theirs = OPTIMIZERS if cls.__module__.startswith("torch.optim.") else {}
    for name, value in vars(arguments).items():
        annotation = known.get(name)
        if name in theirs:
            annotation = Annotated[float, theirs[name]]
        _check_value(value, annotation, f"{at}.{name}")


def _check_value(value: Any, annotation: Any, at: str) -> None:
    if value is None and (annotation in PLAIN or getattr(annotation, "__origin__", None) in PLAIN):
        raise OutOfBounds(at, "must not be null; leave it out for the default")
    if hasattr(annotation, "__dataclass_fields__") and not isinstance(value, Namespace):
        raise OutOfBounds(at, f"must be a mapping of its options, got {value!r}")
    if isinstance(value, Namespace):
        if isinstance(path := value.get("class_path"), str):
            if cls := _class(path):
                _check_arguments(value.get("init_args") or Namespace(), cls, f"{at}.init_args")
        else:
            own = next((part for part in (annotation, *get_args(annotation)) if inspect.isclass(part)), None)
            if own is not None and hasattr(own, "__dataclass_fields__"):
                _check_arguments(value, own, at)
    elif isinstance(value, list | tuple):
        for length in of_parameter(annotation):
            if isinstance(length, Length) and len(value) < length.least:
                raise OutOfBounds(at, f"must have {length}, got {len(value)}")
        for number, entry in enumerate(value):
            _check_value(entry, None if isinstance(entry, list) else annotation, f"{at}.{number}")
    elif isinstance(value, dict):
        for key, entry in value.items():
            _check_value(entry, annotation, f"{at}.{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, annotation, at)


def _check_number(value: float, annotation: Any, at: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise OutOfBounds(at, f"must be a finite number, got {value}")
    if abs(value) > LARGEST and isinstance(value, int):
        raise OutOfBounds(at, f"must be at most {LARGEST:,}, got a number of {len(str(abs(value)))} digits")
    for bound in of_parameter(annotation):
        if isinstance(bound, Bound) and value not in bound:
            raise OutOfBounds(at, f"must be {bound}, got {value}")


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
