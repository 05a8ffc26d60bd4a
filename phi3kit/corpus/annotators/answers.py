"""Answers of a language model in a file, one per line: what was asked once is never asked again."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError


class Answers:
    """A JSONL file that grows, safe to add to from many threads; a line cut short by a crash is dropped.

    Args:
        path: the file; made if need be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._read()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer under a key, or None."""
        return self._rows.get(key)

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Keep an answer, in the file before anywhere else. Raises `UserError` where it cannot be written."""
        line = json.dumps({"key": key, **row}, ensure_ascii=False) + "\n"
        with self._lock:
            try:
                with self.path.open("ab") as stream:
                    stream.write(line.encode("utf-8", "backslashreplace"))
            except OSError as error:
                raise UserError(f"cannot write {self.path}: {error.strerror}; answers so far are kept") from error
            self._rows[key] = row

    def __len__(self) -> int:
        return len(self._rows)

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(whole)
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                row = json.loads(line)
                self._rows[row.pop("key")] = row
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self.path}:{number} is no kept answer ({error}); remove the line, or the file"
                ) from error
