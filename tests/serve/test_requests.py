"""What requests may hold: everything is read or refused by name, and nothing crashes."""

from __future__ import annotations

import json
import time

import pytest
from chat_templates import FORMS, SYSTEM, both, told

from phi3kit import UserError
from phi3kit.records import Message
from phi3kit.serve.protocol import read_chat, read_completion
from phi3kit.testing import tiny
from phi3kit.text.template import render

TOKENIZER = tiny.tokenizer()
USER = {"role": "user", "content": "x"}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def ask(*messages, **fields):
    return read_chat({"messages": list(messages) or [USER], **fields}, TOKENIZER)


def complete(prompt, **fields):
    return read_completion({"prompt": prompt, **fields}, TOKENIZER)


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "user": "me", "parallel_tool_calls": True},
        {"n": 1.0, "logit_bias": {}, "max_tokens": None, "stop": None, "tools": [], "tool_choice": "auto"},
        {"frequency_penalty": 0.0, "logprobs": False, "response_format": {"type": "text"}, "top_k": -1},
        {"nothing_we_know": None},
        {"max_tokens": 10.0, "seed": 3.0, "temperature": 0, "top_p": 1},
        {"max_tokens": 10**30, "seed": 2**64 - 1, "temperature": 1e-40, "stop": ["é🙂"]},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    ],
)
def test_what_changes_nothing_or_can_be_honoured(fields):
    ask(**fields)
    complete("x", **fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temperature": float("inf")}, "temperature inf is no number"),
        ({"temperature": 10**400}, "`temperature` is too large"),
        ({"temperature": True}, "`temperature` is True; give a number"),
        ({"temperature": "1"}, "give a number"),
        ({"top_p": 0}, "top_p 0"),
        ({"top_p": [1]}, "`top_p`"),
        ({"seed": 2**65}, "seed .* is too large"),
        ({"seed": -(2**64)}, "seed .* is too large"),
        ({"seed": 1.5}, "`seed` is 1.5; give a whole number"),
        ({"seed": False}, "`seed` is False"),
        ({"max_tokens": True}, "`max_tokens` is True"),
        ({"max_tokens": -3}, "`max_tokens` is -3; give a whole number of at least 1"),
        ({"max_completion_tokens": 0}, "`max_completion_tokens` is 0"),
        ({"max_tokens": "5"}, "`max_tokens`"),
        ({"n": True}, "`n` True is not supported"),
        ({"n": 2}, "`n` 2"),
        ({"frequency_penalty": False}, "`frequency_penalty`"),
        ({"top_k": 5}, "`top_k` 5"),
        ({"reasoning_effort": "high"}, "no field `reasoning_effort`"),
        ({"response_format": {"type": "json_object"}}, "`response_format`"),
        ({"logit_bias": {"1": 2}}, "`logit_bias`"),
        ({"stream": "false"}, "`stream` is 'false'; give true or false"),
        ({"stream": 1}, "`stream`"),
        ({"stream_options": []}, "`stream_options`"),
        ({"stream_options": {"include_usage": 1}}, "`include_usage`"),
        ({"stream_options": {"usage": True}}, "no field `usage`"),
        ({"stop": ["x"] * 100_000}, "`stop` is too much"),
        ({"stop": "x" * 100_000}, "`stop` is too much"),
        ({"stop": ["\ud83d"]}, "`stop` is not text"),
        ({"stop": [None]}, "`stop`"),
        ({"stop": [""]}, "none of them empty"),
        ({"x" * 10**6: 1}, "there is no field"),
    ],
)
def test_what_cannot(fields, said):
    with pytest.raises(UserError, match=said) as error:
        ask(**fields)
    assert len(str(error.value)) < 600
    with pytest.raises(UserError, match=said):
        complete("x", **fields)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (None, "must be an object"),
        ({"content": "x"}, "the role None"),
        ({"role": ["user"], "content": "x"}, "the role"),
        ({"role": "user"}, "has no text"),
        ({"role": "user", "content": 5}, "has no text"),
        ({"role": "assistant", "content": None}, "has no text"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, r"`content`\[0\] `text` is None; give a text"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "give a text"),
        ({"role": "user", "content": [{"type": "text"}]}, "give a text"),
        ({"role": "user", "content": ["x"]}, "parts of type text"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "weight": 1}]}, "`weight`"),
        ({"role": "user", "content": "half \ud83d"}, r"character 6 is half of one \(\\ud83d\)"),
        ({"role": "user", "content": [{"type": "text", "text": "\udc00"}]}, "half of one"),
        ({"role": "user", "content": "x", "weight": 0}, "`weight`, which is not supported"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "only messages of the role assistant"),
        ({"role": "user", "content": "x", "tool_call_id": "1"}, "only messages of the role tool"),
        ({"role": "user", "content": "x", "name": 5}, "`name` is 5"),
        ({"role": "assistant", "content": "", "tool_calls": {}, "function_call": {"name": "f"}}, "`function_call`"),
        ({"role": "assistant", "content": "", "tool_calls": 5}, "`tool_calls` must be a list"),
        ({"role": "assistant", "content": "", "tool_calls": [5]}, "must be an object with a `function`"),
        ({"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}, "`name` is None"),
        ({"role": "tool", "content": "x", "tool_call_id": "7"}, "answers the call '7', which no message before it"),
    ],
)
def test_messages_that_are_none(message, said):
    with pytest.raises(UserError, match=said):
        ask(USER, message)


def test_an_answers_empty_fields_may_come_back():
    """As `message.model_dump()` of OpenAI's client gives them."""
    back = {"role": "assistant", "content": "y", "refusal": None, "annotations": [], "audio": None, "tool_calls": None}
    assert ask(USER, back, USER).ids == ask(USER, {"role": "assistant", "content": "y"}, USER).ids


@pytest.mark.parametrize(
    "more",
    [
        [{"role": "assistant", "content": None, "tool_calls": [CALL]}],
        [{"role": "assistant", "content": "", "tool_calls": [CALL]}],
        [{"role": "assistant", "content": "5", "reasoning_content": "2 + 3"}],
        [{"role": "assistant", "content": "5"}, {"role": "tool", "content": "sun"}],
    ],
)
def test_what_the_template_has_no_form_for_is_refused(more):
    with pytest.raises(UserError):
        ask(USER, *more, USER)


def test_an_assistants_last_message_is_continued():
    """The prompt is the beginning of the whole conversation, up to where the turn would be closed."""
    messages = [USER, {"role": "assistant", "content": "One, two,"}]
    ids, whole = ask(*messages).ids, ask(USER, {"role": "assistant", "content": "One, two,"}, USER).ids
    assert whole[: len(ids)] == ids
    assert whole[len(ids)] == TOKENIZER.special_tokens["<|end|>"]
    assert TOKENIZER.decode(ids).endswith("One, two,")
    empty = ask(USER, {"role": "assistant", "content": ""})
    assert empty.ids == ask(USER).ids, "nothing said yet: an answer is asked for"


def test_conversations_of_other_shapes():
    """Rendered as the template does, without anything made up."""
    for roles in (["system"], ["user", "user"], ["system", "user", "assistant", "assistant"], ["assistant"]):
        messages = [{"role": role, "content": role} for role in roles]
        text = "".join(f"<|{role}|>\n{role}<|end|>\n" for role in roles)
        open_end = text.removesuffix("<|end|>\n") if roles[-1] == "assistant" else f"{text}<|assistant|>\n"
        swallows = TOKENIZER.swallows_space_after
        for name in swallows:
            open_end = open_end.replace(f"{name}\n", name)
        assert TOKENIZER.decode(ask(*messages).ids) == open_end


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "`prompt` is empty"),
        ([], "`prompt` is empty"),
        (5, "`prompt` must be"),
        (["a", "b"], "several prompts"),
        ([[1, 2], [3]], "several prompts"),
        ([True], "`prompt` must be"),
        ([1.5], "`prompt` must be"),
        ([-1], "an id that is no token"),
        ([10**9], "an id that is no token"),
        ("\ud83d", "`prompt` is not text"),
        (None, "`prompt` must be"),
    ],
)
def test_prompts_that_are_none(prompt, said):
    with pytest.raises(UserError, match=said):
        complete(prompt)


def test_prompts():
    ids = TOKENIZER.encode("The lamp")
    assert complete("The lamp").ids == complete(["The lamp"]).ids == complete(ids).ids == complete([ids]).ids == ids


def test_a_long_prompt_of_ids_is_read_at_once():
    """The vocabulary is not counted anew for each id."""
    start = time.process_time()
    assert len(complete([5] * 100_000).ids) == 100_000
    assert time.process_time() - start < 5


def test_every_json_is_an_answer_or_a_mistake():
    """Values of every kind in every place: no exception but `UserError`."""
    values = [None, True, 0, -1, 1.5, 10**40, 1e300, float("nan"), "", "x", "\udfff", [], [None], {}, {"a": 1}, [[]]]
    for name in json.loads(json.dumps([*FIELDS])):
        for value in values:
            for read, base in ((read_chat, {"messages": [USER]}), (read_completion, {"prompt": "x"})):
                try:
                    read({**base, name: value}, TOKENIZER)
                except UserError:
                    continue
    for name in ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "other"):
        for value in values:
            try:
                ask(USER, {**USER, name: value})
            except UserError:
                continue


FIELDS = (
    "messages", "prompt", "suffix", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop",
    "stream", "stream_options", "n", "logit_bias", "response_format", "tools", "user", "metadata", "other",
)  # fmt: skip


def test_the_whole_conversation_is_rendered():
    from phi3kit.records import Message

    wanted = render([Message("system", "s"), Message("user", "x")], TOKENIZER, generation=True).ids
    parts = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]
    assert ask({"role": "developer", "content": "s"}, {"role": "user", "content": parts}).ids == wanted


def test_a_template_that_moves_the_system_message_to_the_last_question():
    """As Mistral's: each request is the whole conversation, so nothing is wrong with it."""
    moves = (
        "{% for m in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'user' and loop.last %}{{ messages[0].content + '\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    theirs, ours = both(moves, *FORMS["ChatML"][1:])
    rows = told([SYSTEM, Message("user", "a"), Message("assistant", "b"), Message("user", "c")])
    wanted = theirs.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    assert read_chat({"messages": rows}, ours).ids == wanted
