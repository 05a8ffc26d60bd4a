"""Ask a language model behind an OpenAI-compatible endpoint, patiently; the key never leaves the header."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

from phi3kit.errors import UserError

BUSY = (408, 409, 425, 429, 500, 502, 503, 504)  # worth another try
LONGEST_PAUSE = 60.0  # seconds


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key is for this host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Reply(NamedTuple):
    """An answer; `whole` is false where it was cut off at the longest length allowed."""

    text: str
    whole: bool


def request(model: str, message: str, max_tokens: int, temperature: float) -> dict[str, Any]:
    """The body of a request for one answer to one message."""
    messages = [{"role": "user", "content": message}]
    return {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": temperature}


class Endpoint:
    """One model at one address.

    Args:
        url: the part before /chat/completions, e.g. http://localhost:8000/v1.
        model: its name there.
        key_variable: environment variable that holds the key; where it is not set, no key is sent.
        timeout: seconds to wait for one answer.
        retries: how often to try again where the endpoint is busy or does not answer.
        pause: seconds before the first other try; doubled each time.
        sleep: waits; a test's own does not.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 120.0,
        retries: int = 5,
        pause: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not re.match(r"https?://[^/]", url):
            raise UserError(f"url is {url!r}; give the address of an endpoint, e.g. http://localhost:8000/v1")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_variable):
            raise UserError(
                "key_variable is not the name of an environment variable; export the key, e.g. as OPENAI_API_KEY, and "
                "give that name, never the key"
            )
        self.url = f"{url.rstrip('/').removesuffix('/chat/completions')}/chat/completions"
        self.model, self.key_variable = model, key_variable
        self.timeout, self.retries, self.pause, self._sleep = timeout, retries, pause, sleep
        self._open = urllib.request.build_opener(_Stay).open

    def ask(self, prompt: str, max_tokens: int, temperature: float = 0.0) -> str:
        """The model's answer to one message. Raises as `send` does."""
        return self.send(request(self.model, prompt, max_tokens, temperature)).text

    def send(self, body: dict[str, Any]) -> Reply:
        """The answer to a request, and whether it is whole.

        Raises:
            UserError: the endpoint refuses, or still does not answer after all retries.
        """
        for attempt in range(self.retries + 1):
            try:
                return self._answer(body)
            except urllib.error.HTTPError as error:
                if error.code not in BUSY:
                    raise UserError(self._refusal(error)) from error
                reason, wanted = f"HTTP {error.code}", error.headers.get("Retry-After") or ""
            except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out
                reason, wanted = str(getattr(error, "reason", error)) or type(error).__name__, ""
            if attempt < self.retries:
                asked_for = float(wanted) if re.fullmatch(r"\d+(\.\d+)?", wanted) else 0.0
                self._sleep(min(max(self.pause * 2**attempt, asked_for), LONGEST_PAUSE))
        raise UserError(
            f"{self.url} gave no answer in {self.retries + 1} tries ({reason}); is it running? "
            "What was answered so far is kept: the same command goes on from there"
        )

    def _answer(self, body: dict[str, Any]) -> Reply:
        key = os.environ.get(self.key_variable)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with self._open(request, timeout=self.timeout) as response:
            content = response.read()
        try:
            choice = json.loads(content)["choices"][0]
            answer = choice["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{self.url} is no OpenAI-compatible endpoint: it answered {self._told(content)}"
            ) from error
        return Reply(answer or "", choice.get("finish_reason") != "length")

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        told = f"{self.url} answers HTTP {error.code}: {self._told(error.read())}"
        if error.code in (401, 403):
            is_set = "is set, but not accepted" if os.environ.get(self.key_variable) else "is not set"
            return f"{told}; the key is read from the environment variable {self.key_variable}, which {is_set}"
        if error.code == 404:
            return f"{told}; is `url` right (it ends before /chat/completions), and the model {self.model!r} there?"
        return told

    def _told(self, content: bytes) -> str:
        """The start of what a server said, on one line, without the key."""
        text = " ".join(content.decode("utf-8", "replace").split())
        key = os.environ.get(self.key_variable)
        return repr((text.replace(key, "***") if key else text)[:200])
