"""OpenAI's chat and text completions, as far as one small model serves them: requests in, answers out.

Pure functions over JSON; `http` does the talking. A field we cannot honour is refused, never ignored. Fields and
shapes: https://platform.openai.com/docs/api-reference/chat and .../completions.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phi3kit.errors import UserError, nearest
from phi3kit.families import Tokenizer
from phi3kit.model.sampling import Sampler
from phi3kit.records import Message, Role
from phi3kit.text.template import render

ROLES: dict[Any, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
DEFAULT_TOKENS = 512  # longest answer where a request says nothing
COMMON = {
    "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream",
    "stream_options", "n", "user",
}  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {  # fields whose do-nothing values are accepted
    "n": (1,),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "best_of": (1,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
}


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
    fields = _fields(body, {"messages"})
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise UserError("`messages` must be a list of at least one message")
    turns = tuple(_message(message, number) for number, message in enumerate(messages))
    return _ask(fields, render(turns, tokenizer, generation=turns[-1].role != "assistant").ids)


def read_completion(body: Any, tokenizer: Tokenizer) -> Ask:
    """A text completion request: one prompt, as text or as ids."""
    fields = _fields(body, {"prompt", "suffix"})
    prompt = fields.get("prompt")
    if fields.get("suffix"):
        raise UserError("`suffix` is not supported: the model only continues a text")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        opening = [] if tokenizer.opens_with is None else [tokenizer.special_tokens[tokenizer.opens_with]]
        ids = [*opening, *tokenizer.encode(prompt)]
    elif isinstance(prompt, list) and all(_is_id(id, tokenizer) for id in prompt):
        ids = prompt
    else:
        raise UserError("`prompt` must be a text, or a list of token ids; several prompts are several requests")
    if not ids:
        raise UserError("`prompt` is empty; give at least one token")
    return _ask(fields, ids)


def _is_id(value: Any, tokenizer: Tokenizer) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < tokenizer.vocab_size


def _fields(body: Any, own: set[str]) -> Mapping[str, Any]:
    """The request's fields, none of them unknown or beyond us."""
    if not isinstance(body, dict):
        raise UserError("the request's body must be a JSON object")
    for name, value in body.items():
        if name in COMMON | own and name not in NEUTRAL:
            continue
        if name not in NEUTRAL:
            raise UserError(f"there is no field `{name}` here{nearest(name, [*COMMON, *own])}")
        if value is not None and value not in NEUTRAL[name]:
            raise UserError(f"`{name}` {value!r:.60} is not supported; leave it out")
    return {name: value for name, value in body.items() if value is not None}


def _message(message: Any, number: int) -> Message:
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise UserError(f"{where} must be an object with `role` and `content`")
    if message.get("role") not in list(ROLES):
        raise UserError(f"{where} has the role {message.get('role')!r}; roles are {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        content = "".join(part.get("text", "") for part in content)
    if not isinstance(content, str):
        raise UserError(f"{where} has no text: `content` must be a string, or a list of parts of type text")
    return Message(ROLES[message["role"]], content)


def _ask(fields: Mapping[str, Any], ids: list[int]) -> Ask:
    longest = fields.get("max_completion_tokens", fields.get("max_tokens", DEFAULT_TOKENS))
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
        raise UserError(f"`max_tokens` is {longest!r:.60}; give a whole number of at least 1")
    stops = fields.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise UserError("`stop` must be a text or a list of texts")
    options = fields.get("stream_options", {})
    if not isinstance(options, dict):
        raise UserError("`stream_options` must be an object")
    return Ask(
        ids=ids,
        max_new_tokens=longest,
        sampler=_sampler(fields),
        stops=stops,
        stream=bool(fields.get("stream", False)),
        usage_at_end=bool(options.get("include_usage", False)),
    )


def _sampler(fields: Mapping[str, Any]) -> Sampler:
    numbers = {"temperature": fields.get("temperature", 1.0), "top_p": fields.get("top_p", 1.0)}
    for name, value in numbers.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise UserError(f"`{name}` is {value!r:.60}; give a number")
    seed = fields.get("seed", uuid.uuid4().int % 2**31)
    if not isinstance(seed, int):
        raise UserError(f"`seed` is {seed!r:.60}; give a whole number")
    return Sampler(float(numbers["temperature"]), float(numbers["top_p"]), seed)


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
