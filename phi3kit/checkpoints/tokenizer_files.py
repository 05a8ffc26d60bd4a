"""A public folder's tokenizer files to ours, and ours to files that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer
from phi3kit.text.cl100k import FILE as RANKS
from phi3kit.text.hugging_face import FILE as JSON
from phi3kit.text.ranks import bpe_of_ranks
from phi3kit.text.template import END_OF_TEXT, stop_ids

# The chat template that `phi3kit.text.template` renders, for transformers' apply_chat_template.
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' or message['content'] %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer of a public folder; None where it has none that can be read without running its code.

    Raises:
        UserError: a damaged file, or one with more ids than the embedding has rows.
    """
    if (folder / JSON).is_file():
        tokenizer: Tokenizer = HuggingFaceTokenizer(str(folder / JSON))
    elif (folder / RANKS).is_file():
        tokenizer = Cl100kTokenizer(str(folder / RANKS))
    else:
        return None
    if tokenizer.vocab_size > vocab_size:
        raise UserError(f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, config.json says {vocab_size}")
    return tokenizer


def write_public_tokenizer(tokenizer: Tokenizer, context: int, folder: Path) -> None:
    """tokenizer.json (and the ranks of a tiktoken one) and tokenizer_config.json, with the chat template."""
    if not isinstance(tokenizer, HuggingFaceTokenizer | Cl100kTokenizer):
        raise UserError(f"a {type(tokenizer).__name__} has no public file format; use one saved as tokenizer.json")
    tokenizer.save(folder)
    if isinstance(tokenizer, Cl100kTokenizer):
        write_json(folder / JSON, _of_ranks(tokenizer))
    opening = "{{ bos_token }}" if tokenizer.opens_with is not None else ""
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "bos_token": _bos(tokenizer),
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "chat_template": opening + TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", about)


def _bos(tokenizer: Tokenizer) -> str:
    """What a text may begin with: the tokenizer's own opening, Llama's ``<s>``, or the end of the text before."""
    return tokenizer.opens_with or ("<s>" if "<s>" in tokenizer.special_tokens else END_OF_TEXT)


def token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids that config.json names. Phi-3 pads with its end of text."""
    begin, end = (tokenizer.special_tokens[name] for name in (_bos(tokenizer), END_OF_TEXT))
    return {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json: an answer ends with any of ``<|endoftext|>``, ``<|assistant|>``, ``<|end|>``."""
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
