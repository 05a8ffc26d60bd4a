"""OpenAI's chat and text completions, as far as one small model serves them: requests in, answers out.

Pure functions over JSON; `http` does the talking. Shapes: https://platform.openai.com/docs/api-reference/chat and
.../completions. A chat that ends with an assistant's message is continued within it, as llama.cpp's server does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model.sampling import Sampler
from phi3kit.serve import fields as given
from phi3kit.serve import messages
from phi3kit.text.characters import whole_characters


@dataclass(frozen=True)
class Ask:
    """What a request asks for, checked.

    Args:
        ids: the prompt.
        max_new_tokens: the longest answer.
        sampler: picks the ids.
        stops: texts that end the answer; they are not part of it.
        stream: answer piece by piece.
        usage_at_end: a last chunk of a stream counts tokens.
    """

    ids: list[int]
    max_new_tokens: int
    sampler: Sampler
    stops: list[str]
    stream: bool
    usage_at_end: bool


def read_chat(body: Any, tokenizer: Tokenizer) -> Ask:
    """A chat completion request.

    Raises:
        UserError: which field, what it holds, what is accepted.
    """
    fields = given.known(body, {"messages"})
    return _ask(fields, messages.prompt(messages.read(fields.get("messages")), tokenizer))


def read_completion(body: Any, tokenizer: Tokenizer) -> Ask:
    """A text completion request: one prompt, as text or as ids."""
    fields = given.known(body, {"prompt", "suffix"})
    prompt = fields.get("prompt")
    if fields.get("suffix"):
        raise UserError("`suffix` is not supported: the model only continues a text")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        opening = [] if tokenizer.opens_with is None else [tokenizer.special_tokens[tokenizer.opens_with]]
        ids = [*opening, *tokenizer.encode(whole_characters(prompt, "`prompt`"))]
    elif isinstance(prompt, list) and all(isinstance(id, int) and not isinstance(id, bool) for id in prompt):
        ids, size = prompt, tokenizer.vocab_size
        if any(not 0 <= id < size for id in ids):
            raise UserError(f"`prompt` holds an id that is no token; ids are 0 to {size - 1}")
    else:
        raise UserError("`prompt` must be a text, or a list of token ids; several prompts are several requests")
    if not ids:
        raise UserError("`prompt` is empty; give at least one token")
    return _ask(fields, ids)


def _ask(fields: Mapping[str, Any], ids: list[int]) -> Ask:
    return Ask(
        ids=ids,
        max_new_tokens=given.longest(fields),
        sampler=given.sampler(fields),
        stops=given.stops(fields),
        stream=given.flag(fields, "stream"),
        usage_at_end=given.usage_at_end(fields),
    )


@dataclass
class Reply:
    """One answer in the making: the shapes of its JSON.

    Args:
        model: name of the model, as the answer states it.
        chat: a chat completion, not a text completion.
        prompt_tokens: how many ids were asked.
        completion_tokens: how many were generated so far, the stop id not among them.
        finish_reason: "stop" or "length", once it has ended.
    """

    model: str
    chat: bool
    prompt_tokens: int
    completion_tokens: int = 0
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def whole(self, text: str) -> dict[str, Any]:
        """The answer in one piece."""
        body: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        kind = "chat.completion" if self.chat else "text_completion"
        return self._envelope(kind, body, self.finish_reason) | {"usage": self.usage()}

    def chunk(self, text: str, *, first: bool = False, last: bool = False) -> dict[str, Any]:
        """A piece of a stream; only the last one, which is empty, says why the answer ended."""
        delta = ({"role": "assistant"} if first else {}) | ({"content": text} if text or first else {})
        body: dict[str, Any] = {"delta": delta} if self.chat else {"text": text}
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._envelope(kind, body, self.finish_reason if last else None)

    def usage_chunk(self) -> dict[str, Any]:
        """What `stream_options.include_usage` asks for, after the last piece."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._envelope(kind, {}, None) | {"choices": [], "usage": self.usage()}

    def _envelope(self, kind: str, body: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, **body, "logprobs": None, "finish_reason": finish_reason}
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": [choice]}
