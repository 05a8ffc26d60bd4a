"""The fields of a request: which there are, and what each may hold. A field that we cannot honour is refused, never
ignored; one that changes no answer here is accepted.

Fields: https://platform.openai.com/docs/api-reference/chat and .../completions, and what vLLM's and llama.cpp's clients
add to them where its value asks for nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from phi3kit.errors import UserError, nearest
from phi3kit.model.sampling import Sampler
from phi3kit.text.characters import whole_characters

HONOURED = {
    "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options",
}  # fmt: skip
UNSEEN = {  # who asks, what for, what to keep, how fast: no answer is another for them
    "user", "safety_identifier", "store", "metadata", "service_tier", "prediction", "prompt_cache_key",
    "prompt_cache_retention", "cache_prompt", "parallel_tool_calls",
}  # fmt: skip
NEUTRAL: dict[str, tuple[Any, ...]] = {  # fields whose do-nothing values are accepted
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "best_of": (1,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
DEFAULT_TOKENS = 512  # longest answer where a request says nothing
STOPS, STOP_LENGTH = 64, 1000  # texts that end an answer, and the characters of one, at most: all are looked for


def known(body: Any, own: set[str]) -> Mapping[str, Any]:
    """The request's fields, none of them unknown or beyond us; those that are null are left out.

    Args:
        body: the request.
        own: fields of its kind alone.
    """
    if not isinstance(body, dict):
        raise UserError("the request's body must be a JSON object")
    fields = {name: value for name, value in body.items() if value is not None}
    for name, value in fields.items():
        if name not in HONOURED | UNSEEN | NEUTRAL.keys() | own:
            raise UserError(f"there is no field `{name:.60}` here{nearest(name[:60], HONOURED | own)}")
        if name in NEUTRAL and not any(same(value, neutral) for neutral in NEUTRAL[name]):
            raise UserError(f"`{name}` {value!r:.60} is not supported; leave it out")
    return fields


def same(value: Any, other: Any) -> bool:
    """Whether two values of JSON are the same; 1 and 1.0 are, 1 and true are not."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def longest(fields: Mapping[str, Any]) -> int:
    """The most tokens of an answer."""
    name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    number = _whole(fields, name, DEFAULT_TOKENS)
    if number < 1:
        raise UserError(f"`{name}` is {number!r:.60}; give a whole number of at least 1")
    return number


def sampler(fields: Mapping[str, Any]) -> Sampler:
    """What picks the ids; without a seed each request draws its own."""
    temperature, top_p = _number(fields, "temperature", 1.0), _number(fields, "top_p", 1.0)
    return Sampler(temperature, top_p, _whole(fields, "seed", random.getrandbits(31)))


def stops(fields: Mapping[str, Any]) -> list[str]:
    """Texts that end the answer."""
    found = fields.get("stop", [])
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(stop, str) and stop for stop in found):
        raise UserError("`stop` must be a text or a list of texts, none of them empty")
    if len(found) > STOPS or any(len(stop) > STOP_LENGTH for stop in found):
        raise UserError(f"`stop` is too much; give at most {STOPS} texts, each of at most {STOP_LENGTH} characters")
    return [whole_characters(stop, "`stop`") for stop in found]


def flag(fields: Mapping[str, Any], name: str) -> bool:
    """Whether a switch is on; where it is absent it is off."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise UserError(f"`{name}` is {value!r:.60}; give true or false")
    return value


def usage_at_end(fields: Mapping[str, Any]) -> bool:
    """Whether a stream ends with the number of its tokens."""
    options = fields.get("stream_options", {})
    if not isinstance(options, dict):
        raise UserError("`stream_options` must be an object")
    options = {name: value for name, value in options.items() if value is not None}
    for name in options.keys() - {"include_usage", "include_obfuscation"}:
        raise UserError(f"there is no field `{name:.60}` in `stream_options`; valid: include_usage")
    if flag(options, "include_obfuscation"):
        raise UserError("`include_obfuscation` is not supported; leave it out")
    return flag(options, "include_usage")


def _number(fields: Mapping[str, Any], name: str, default: float) -> float:
    value = fields.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise UserError(f"`{name}` is {value!r:.60}; give a number")
    try:
        return float(value)
    except OverflowError as error:
        raise UserError(f"`{name}` is too large") from error


def _whole(fields: Mapping[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of numbers
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"`{name}` is {value!r:.60}; give a whole number")
    return value
