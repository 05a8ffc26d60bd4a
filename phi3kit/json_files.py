"""JSON files of others: a byte order mark in front is taken, anything else that is wrong is told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError


def read_object(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object. Raises `UserError` where it cannot be read, or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; an object is expected")
    return content
