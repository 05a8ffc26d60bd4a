"""A tokenizer as a device reads it: `tokenizer.json` for ExecuTorch's C++ code.

The C++ tokenizer (pytorch_tokenizers 1.5) decodes token by token, ignores what special tokens swallow, and its
vocabulary size is the number of entries. So here: no decoder step that strips (it would lose every space), and
no holes in the ids (the highest could never be sampled). `device_template` has the chat template for apps.
"""

from __future__ import annotations

import json
from typing import Any

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.text.cl100k import Cl100kTokenizer
from phi3kit.text.device_steps import device_steps
from phi3kit.text.device_words import device_words
from phi3kit.text.hugging_face import HuggingFaceTokenizer
from phi3kit.text.ranks import bpe_of_ranks

STREAMING = ("ByteLevel", "Replace", "ByteFallback", "Fuse")  # decoder steps that may see one token at a time


def device_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a ``tokenizer.json`` that gives a device the same ids.

    Raises:
        UserError: a kind of tokenizer that has no such file.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        content = json.loads(tokenizer.content)
        for token in content.get("added_tokens") or []:  # by which an app knows what to take out of a user's text
            token["special"] = token["content"] in tokenizer.special_tokens
    elif isinstance(tokenizer, Cl100kTokenizer):
        content = bpe_of_ranks(tokenizer.ranks)
        special = sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
        content["added_tokens"] = [_added(id, name) for name, id in special]
    else:
        raise UserError(f"a device cannot read a {type(tokenizer).__name__}; use one that is saved as tokenizer.json")
    content |= {"post_processor": _opening(tokenizer), "truncation": None, "padding": None, **device_steps(content)}
    content["decoder"] = _streaming(content.get("decoder"))
    content["added_tokens"] = [*(content.get("added_tokens") or []), *_fillers(content)]
    return device_words(content, [token for token in content["added_tokens"] if token["content"] in tokenizer.words])


def _streaming(decoder: dict[str, Any] | None) -> dict[str, Any]:
    """A decoder that may see one token at a time: without steps that look at the ends of a text."""
    if decoder is None:
        raise UserError("the tokenizer has no decoder: a device would print its raw pieces; add one to tokenizer.json")
    kept = [step for step in decoder.get("decoders", [decoder]) if step["type"] != "Strip"]
    odd = [step["type"] for step in kept if step["type"] not in ("ByteLevel", "Replace", "ByteFallback", "Fuse")]
    if odd:
        raise UserError(f"a device cannot decode with {odd[0]}; it knows ByteLevel, Replace, ByteFallback and Fuse")
    return {"type": "Sequence", "decoders": kept} if "decoders" in decoder else decoder


def _opening(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """What tells a reader of the file that conversations open with a token. A runtime is asked for no bos: the
    template writes it."""
    name = tokenizer.opens_with
    if name is None:
        return None
    begin = {"SpecialToken": {"id": name, "type_id": 0}}
    first, second = ({"Sequence": {"id": which, "type_id": 0}} for which in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, second],
        "special_tokens": {name: {"id": name, "ids": [tokenizer.special_tokens[name]], "tokens": [name]}},
    }


def _fillers(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Added tokens for ids that nothing has."""
    added = content.get("added_tokens") or []
    taken = {*content["model"]["vocab"].values(), *(token["id"] for token in added)}
    return [_added(id, f"<|unused_{id}|>") for id in sorted(set(range(max(taken) + 1)) - taken)]


def _added(id: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": name, **flags, "special": True}
