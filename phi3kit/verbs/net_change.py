"""Where a recipe's net computes otherwise than the one it starts from, although every weight fits.

Positions, windows and the context have no weights: a 4K checkpoint loads into a 128K net without a word. A published
checkpoint is meant as it is, so such a recipe is refused unless it says ``changes_net: true``, as the recipes of long
context do; a net trained here may change, and the difference is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from phi3kit.errors import UserError

PUBLIC: Final = "hugging_face"  # folder that `phi3kit convert` leaves in a run
WITHOUT_WEIGHTS: Final = ("position", "attention")


def check_net_change(start_from: Path, section: dict[str, Any], meant: bool) -> str:
    """One line about the difference; empty where there is none.

    Args:
        start_from: run folder whose weights are loaded.
        section: the recipe's ``net:``.
        meant: the recipe's `changes_net`.

    Raises:
        UserError: a published checkpoint's net is changed, and the recipe does not say so.
    """
    from phi3kit.model.load import net_section, whole_section

    differing = list(differences(whole_section(net_section(start_from)), whole_section(section)))
    if not differing:
        return ""
    said = f"{', '.join(differing[:4])}{', …' if len(differing) > 4 else ''}"
    if (start_from / PUBLIC).is_dir() and not meant:
        raise UserError(
            f"start_from {start_from} is a published net, and the recipe's net is another: {said}; add --recipe "
            f"{start_from / 'config.yaml'} after the others to train it as it is, or, to change it, --changes_net true"
        )
    return f"the net is not that of {start_from}: {said}"


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """``net.position RoPE -> LongRoPE`` and the like, of two whole sections."""
    yield from _between(before["dims"]["context"], after["dims"]["context"], "net.dims.context")
    for part in WITHOUT_WEIGHTS:
        old, new = before[part], after[part]
        if not isinstance(new, list):
            yield from _between(old, new, f"net.{part}")
            continue
        for number in range(max(len(old), len(new))):  # layers take them by turns
            yield from _between(old[number % len(old)], new[number % len(new)], f"net.{part}.{number}")


def _between(old: Any, new: Any, at: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if "class_path" in old and old["class_path"] != new.get("class_path"):
            yield f"{at} {old['class_path']} -> {new.get('class_path')}"
            return
        for key in {**old, **new}:
            inside = at if key in ("class_path", "init_args") else f"{at}.{key}"
            yield from _between(old.get(key), new.get(key), inside)
    elif old != new:
        short = [f"[{len(value)} numbers]" if isinstance(value, list) else _yaml(value) for value in (old, new)]
        yield f"{at} {short[0]} -> {short[1]}"


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value)
