"""Labels by a language model: the report's and phi-1's way to quality, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any, final

from phi3kit.corpus.annotators.answers import Answers
from phi3kit.corpus.annotators.endpoint import Endpoint
from phi3kit.corpus.annotators.prompts import points_of, prompt, prompt_version
from phi3kit.corpus.annotators.scale import MOST
from phi3kit.errors import UserError
from phi3kit.families import Annotator, Labelled
from phi3kit.records import Document

SCORE = re.compile(r"score\W{0,8}(\d+(?:\.\d+)?)", re.IGNORECASE)
AHEAD = 4  # documents per thread that wait for an answer or for one before theirs
PATIENCE = 20  # answers without a score from the start: the model does not understand


@final
class LanguageModel(Annotator):
    """Asks a model for 0 to 5 points and why. The API key comes from the environment and is written nowhere.

    Args:
        url: the part before /chat/completions, e.g. http://localhost:8000/v1 (vLLM, llama.cpp, `phi3kit serve`, …).
        model: its name there.
        answers: JSONL file that keeps every answer; an interrupted run goes on from it and asks nothing twice.
        aspect: educational, reasoning, trivia or toxicity, each with a prompt; another one needs `question`, `points`.
        question: own prompt: what to judge a text by, as in "how much a student could learn from it".
        points: own prompt: five statements; each that holds is a point.
        first_characters: how much of a text is shown.
        concurrency: questions at a time.
        max_tokens: longest answer.
        timeout: seconds to wait for one.
        retries: how often to try again where the endpoint is busy.
        key_variable: environment variable that holds the API key.
    """

    def __init__(
        self,
        url: str,
        model: str,
        answers: str,
        aspect: str = "educational",
        question: str = "",
        points: Sequence[str] = (),
        first_characters: int = 1000,
        concurrency: int = 8,
        max_tokens: int = 256,
        timeout: float = 120.0,
        retries: int = 5,
        key_variable: str = "OPENAI_API_KEY",
    ) -> None:
        self.endpoint = Endpoint(url, model, key_variable, timeout, retries)
        self.answers, self._aspect = answers, aspect
        self._asked = points_of(aspect, tuple(points), question)
        self.first_characters, self.concurrency, self.max_tokens = first_characters, concurrency, max_tokens

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """The model, the prompt's hash, and how much of a text is shown."""
        return f"{self.endpoint.model}, prompt {prompt_version(self._asked)}, {self.first_characters} characters"

    def annotate(self, documents: Iterable[Document]) -> Iterator[Labelled]:
        """Every document the model gave a score for, in order.

        Raises:
            UserError: the endpoint refuses or stays silent, or its answers hold no scores. Answers so far are kept.
        """
        kept = Answers(Path(self.answers))
        pool = ThreadPoolExecutor(self.concurrency)
        waiting: deque[tuple[Document, str]] = deque()
        asked: dict[str, Future[None]] = {}
        refused = Event()  # nothing more is asked after an error
        misunderstood = 0  # answers without a score, from the start

        def next_one() -> Iterator[Labelled]:
            nonlocal misunderstood
            document, key = waiting.popleft()
            if key in asked:
                asked.pop(key).result()
            row = kept.get(key)
            assert row is not None, "an answer that was waited for is kept"
            if row["label"] is not None:
                misunderstood = -1
                yield Labelled(document, float(row["label"]), row["rationale"])
            elif misunderstood >= 0 and (misunderstood := misunderstood + 1) >= PATIENCE:
                raise UserError(
                    f"none of the first {PATIENCE} answers of {self.endpoint.model} ends with a score, e.g. "
                    f"{row['rationale'][:120]!r}; take a model that follows instructions, and a new `answers` file"
                )

        try:
            for document in documents:
                shown = document.text[: self.first_characters]
                key = self._key(shown)
                if kept.get(key) is None and key not in asked:
                    asked[key] = pool.submit(self._ask, kept, key, document.id, shown, refused)
                waiting.append((document, key))
                if len(waiting) > AHEAD * self.concurrency:
                    yield from next_one()
            while waiting:
                yield from next_one()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _key(self, shown: str) -> str:
        asked = f"{self.endpoint.model}\n{prompt_version(self._asked)}\n{shown}"
        return sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _ask(self, kept: Answers, key: str, id: str, shown: str, refused: Event) -> None:
        if refused.is_set():
            raise CancelledError  # an earlier document's error is told before this
        try:
            answer = self.endpoint.ask(prompt(self._asked, shown), self.max_tokens)
        except BaseException:
            refused.set()
            raise
        kept.add(key, {"id": id, **parsed(answer)})


def parsed(answer: str) -> dict[str, Any]:
    """The last score an answer names, and the words before it; a label of None where it names none of 0 to 5."""
    found = list(SCORE.finditer(answer))
    if not found or float(found[-1][1]) > MOST:
        return {"label": None, "rationale": answer.strip()}
    return {"label": float(found[-1][1]), "rationale": answer[: found[-1].start()].strip(" \n*#_")}
