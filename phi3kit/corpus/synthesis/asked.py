"""A model that is asked nothing twice: answers are kept in a file, by all that decides them."""

from __future__ import annotations

import json
import threading
from hashlib import sha256
from pathlib import Path

from phi3kit.corpus.annotators.answers import Answers
from phi3kit.corpus.annotators.endpoint import Endpoint, Reply


class Asked:
    """Asks from many threads; where two ask the same at once, one of them waits for the other's answer.

    Args:
        endpoint: of the model.
        file: of the answers.
        max_tokens: longest answer.
        seed: of all sampling.
    """

    def __init__(self, endpoint: Endpoint, file: Path, max_tokens: int, seed: int) -> None:
        self.endpoint, self.kept, self.max_tokens, self.seed = endpoint, Answers(file), max_tokens, seed
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}

    def ask(self, message: str, temperature: float, sample: int) -> Reply:
        """The answer number `sample` to a message. Raises `UserError` where the endpoint gives none."""
        decides = [self.endpoint.model, message, temperature, self.seed, sample, self.max_tokens]
        key = sha256(json.dumps(decides).encode()).hexdigest()[:32]
        with self._lock:
            mine = self._asking.setdefault(key, threading.Lock())
        with mine:
            row = self.kept.get(key)
            if row is None:
                seed = int.from_bytes(sha256(f"{self.seed} {sample}".encode()).digest()[:4], "big") >> 1
                reply = self.endpoint.reply(message, self.max_tokens, temperature, seed)
                row = {"answer": reply.text, "whole": reply.whole}
                self.kept.add(key, row)
        return Reply(row["answer"], row["whole"])
