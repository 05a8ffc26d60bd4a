"""Chat templates as public folders have them, in words of our own; transformers' tokenizers with them, and ours."""

from __future__ import annotations

from typing import Any

import tokenizers
from transformers import PreTrainedTokenizerFast

from phi3kit.records import ChatForm, Message
from phi3kit.testing import tiny
from phi3kit.text import HuggingFaceTokenizer
from phi3kit.text.chat_form import with_form

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = """{% for message in messages %}
{{ '<|as ' + message['role'] + '|>\n' + message['content'] + eos_token }}
{% if loop.last and add_generation_prompt %}
{{ '<|as assistant|>' }}
{% endif %}
{% endfor %}"""
JUNE = (
    "{% for m in messages %}{% if m['role'] in ['system', 'user', 'assistant'] %}"
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
MEDIUM = (  # Phi-3-medium; April's Phi-3-mini begins with bos_token
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '<|user|>\n' + m['content'] + '<|end|>\n<|assistant|>\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
)
PHI4_MINI = (
    "{% for m in messages %}{% if m['role'] == 'system' and 'tools' in m and m['tools'] is not none %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|tool|>' + m['tools'] + '<|/tool|><|end|>' }}{% else %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
TRIMMED = CHATML.replace("m['content']", "(m.content | trim)")
PLAIN = (  # nothing but the end of text tells that an answer ends
    "{% for m in messages %}{{ m.role | upper + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% else %}{{ eos_token }}{% endif %}"
)
CALLS = (
    "{% if tools %}{{ '<|im_start|>tools\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | map(attribute='function') | list | tojson }}{% endif %}"
    "{{ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FORMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ChatML": (CHATML, "<|im_end|>", ("<|im_start|>", "<|im_end|>")),
    "trimmed": (TRIMMED, "<|im_end|>", ("<|im_start|>", "<|im_end|>")),
    "Zephyr": (ZEPHYR, "</s>", ("</s>",)),
    "Phi-3-mini": (JUNE, "<|endoftext|>", ()),
    "Phi-3-medium": (MEDIUM, "<|endoftext|>", ()),
    "Phi-4-mini": (PHI4_MINI, "<|endoftext|>", ("<|tool|>", "<|/tool|>")),
}
SYSTEM, USER, ANSWER = Message("system", "Be brief."), Message("user", "2+2?\n"), Message("assistant", " It is 4.")
TALK = [SYSTEM, USER, ANSWER, Message("user", "Sure?"), Message("assistant", "Yes.")]


def added(name: str) -> tokenizers.AddedToken:
    """As it is in Phi-4-mini, whose tokens for tools swallow white space, and in others."""
    return tokenizers.AddedToken(name, special=True, normalized=False, rstrip="tool" in name)


def both(template: str, eos: str, more: tuple[str, ...]) -> tuple[Any, HuggingFaceTokenizer]:
    """transformers' tokenizer with a template, and ours."""
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(tiny.tokenizer().content))  # type: ignore[attr-defined]
    theirs.add_special_tokens({"additional_special_tokens": [added(name) for name in more]})
    theirs.eos_token, theirs.bos_token, theirs.chat_template = eos, "<|endoftext|>", template
    ours = HuggingFaceTokenizer.from_content(theirs.backend_tokenizer.to_str())
    closing = "<|end|>" if "<|end|>" in template else eos
    stops = tuple(dict.fromkeys(theirs.convert_tokens_to_ids([closing, eos])))
    return theirs, with_form(ours, ChatForm(template, stops, {"bos_token": "<|endoftext|>", "eos_token": eos}))


def told(messages: list[Message]) -> list[dict[str, Any]]:
    return [{"role": m.role, "content": m.content} for m in messages]
