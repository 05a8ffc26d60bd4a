"""A public folder's tokenizer files to ours, and ours to files that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phi3kit.checkpoints.added_tokens import with_neighbours
from phi3kit.checkpoints.door import compare_templates
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer
from phi3kit.text.chat_form import with_form
from phi3kit.text.cl100k import FILE as RANKS
from phi3kit.text.hugging_face import FILE as JSON
from phi3kit.text.ranks import bpe_of_ranks
from phi3kit.text.template import END_OF_TEXT, TOOL, TOOL_END, stop_ids

# The chat template that `phi3kit.text.template` renders, for transformers' apply_chat_template.
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' or message['content'] %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
# The same of a tokenizer with Phi-4-mini's tokens for tools, which its template takes as text in the system's turn.
TOOLS_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' or message['content'] or message['tools'] %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['tools'] %}{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}{% endif %}{{ '<|end|>\\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer of a public folder, with the folder's way of writing conversations; None where it has none that can
    be read without running its code.

    Raises:
        UserError: a damaged file, one with more ids than the embedding has rows, or a chat template that is none.
    """
    return read_and_compare(folder, vocab_size)[0]


def read_and_compare(folder: Path, vocab_size: int) -> tuple[Tokenizer | None, list[str]]:
    """As `read_tokenizer`; and how its chat template compares with ours, in lines."""
    if (folder / JSON).is_file():
        alone = HuggingFaceTokenizer(str(folder / JSON))
        content = with_neighbours(alone.content, folder, vocab_size)
        tokenizer: Tokenizer = alone if content == alone.content else HuggingFaceTokenizer.from_content(content)
    elif (folder / RANKS).is_file():
        tokenizer = Cl100kTokenizer(str(folder / RANKS))
    else:
        return None, []
    if tokenizer.vocab_size > vocab_size:
        raise UserError(f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, config.json says {vocab_size}")
    found = compare_templates(folder, tokenizer)
    return with_form(tokenizer, found.form), found.lines


def write_public_tokenizer(tokenizer: Tokenizer, context: int, folder: Path) -> None:
    """tokenizer.json (and the ranks of a tiktoken one) and tokenizer_config.json, with the chat template."""
    if not isinstance(tokenizer, HuggingFaceTokenizer | Cl100kTokenizer):
        raise UserError(f"a {type(tokenizer).__name__} has no public file format; use one saved as tokenizer.json")
    tokenizer.save(folder)
    if isinstance(tokenizer, Cl100kTokenizer):
        write_json(folder / JSON, _of_ranks(tokenizer))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        **_named(tokenizer),
        "chat_template": _template(tokenizer),
    }
    write_json(folder / "tokenizer_config.json", about)


def _named(tokenizer: Tokenizer) -> dict[str, str]:
    """What a template calls by name; Phi-3 pads with its end of text."""
    form = tokenizer.chat_form
    if form is not None and form.template:
        return dict(form.tokens)
    return {"bos_token": _bos(tokenizer), "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}


def _template(tokenizer: Tokenizer) -> str | list[dict[str, str]]:
    """What the model was trained with: the template that it came with, or ours."""
    form = tokenizer.chat_form
    if form is None or not form.template:
        tools = TOOLS_TEMPLATE if tokenizer.template_tokens.keys() >= {TOOL, TOOL_END} else TEMPLATE
        return ("{{ bos_token }}" if tokenizer.opens_with is not None else "") + tools
    named = {"default": form.template, "tool_use": form.tool_template}
    every = [{"name": name, "template": text} for name, text in named.items() if text]
    return every if form.tool_template else form.template


def _bos(tokenizer: Tokenizer) -> str:
    """What a text may begin with: the tokenizer's own opening, Llama's ``<s>``, or the end of the text before."""
    return tokenizer.opens_with or ("<s>" if "<s>" in tokenizer.special_tokens else END_OF_TEXT)


def token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids that config.json names."""
    named, ids = _named(tokenizer), tokenizer.template_tokens
    kinds = ("bos_token", "eos_token", "pad_token")
    return {f"{kind}_id": ids[named[kind]] for kind in kinds if named.get(kind) in ids}


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json: an answer ends with any of the stops."""
    return {"_from_model_config": False, **token_ids(tokenizer), "eos_token_id": sorted(stop_ids(tokenizer))}


def _of_ranks(tokenizer: Cl100kTokenizer) -> dict[str, Any]:
    content = bpe_of_ranks(tokenizer.ranks)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
    content["added_tokens"] = [{"id": id, "content": name, **flags, "special": True} for name, id in special]
    return content | {"post_processor": None, "truncation": None, "padding": None}


def write_json(path: Path, content: Any) -> None:
    """Write JSON as Hugging Face does."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
