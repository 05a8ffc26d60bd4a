"""A model that is asked nothing twice: answers are kept in a file, by all that decides them."""

from __future__ import annotations

import json
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

from phi3kit.corpus.annotators.answers import Answers
from phi3kit.corpus.annotators.endpoint import Endpoint, Reply


class Asked:
    """Asks from many threads; where two ask the same at once, one of them waits for the other's answer.

    Args:
        endpoint: of the model.
        file: of the answers.
    """

    def __init__(self, endpoint: Endpoint, file: Path) -> None:
        self.endpoint, self.kept = endpoint, Answers(file)
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}

    def send(self, body: dict[str, Any]) -> Reply:
        """The answer to a request, kept before anything else. Raises `UserError` where the endpoint gives none."""
        key = sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
        with self._lock:
            mine = self._asking.setdefault(key, threading.Lock())
        with mine:
            row = self.kept.get(key)
            if row is None:
                reply = self.endpoint.send(body)
                row = {"answer": reply.text, "whole": reply.whole}
                self.kept.add(key, row)
        return Reply(row["answer"], row["whole"])
