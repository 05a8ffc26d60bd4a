"""A tokenizer as a device reads it: `tokenizer.json` for ExecuTorch's C++ code, and the chat template for apps.

The C++ tokenizer (pytorch_tokenizers 1.5) decodes token by token, ignores what special tokens swallow, and its
vocabulary size is the number of entries. So here: no decoder step that strips (it would lose every space), no
holes in the ids (the highest could never be sampled), and a template without the white space that special tokens
swallow in training.
"""

from __future__ import annotations

import json
from typing import Any

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import Message, Role
from phi3kit.text.cl100k import Cl100kTokenizer
from phi3kit.text.hugging_face import HuggingFaceTokenizer
from phi3kit.text.ranks import bpe_of_ranks
from phi3kit.text.template import END, segments

CONTENT = "{content}"  # where a message goes in a template
STREAMING = ("ByteLevel", "Replace", "ByteFallback", "Fuse")  # decoder steps that may see one token at a time
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


def device_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a ``tokenizer.json`` that gives a device the same ids.

    Raises:
        UserError: a kind of tokenizer that has no such file.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        content = json.loads(tokenizer.content)
    elif isinstance(tokenizer, Cl100kTokenizer):
        content = bpe_of_ranks(tokenizer.ranks)
        special = sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
        content["added_tokens"] = [_added(id, name) for name, id in special]
    else:
        raise UserError(f"a device cannot read a {type(tokenizer).__name__}; use one that is saved as tokenizer.json")
    content |= {"post_processor": _opening(tokenizer), "truncation": None, "padding": None}
    content["decoder"] = _streaming(content["decoder"])
    content["added_tokens"] += _fillers(content)
    return content


def device_tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a ``tokenizer_config.json``: the template as Jinja, and the token that ends an answer.

    A conversation's text is a prefix of its continuation's, which react-native-executorch requires. As in training, a
    system message without content is left out, and white space that a role's token swallows is taken from contents.
    """
    parts = template(tokenizer)
    begin = f"{{{{ {_quoted(parts['begin'])} }}}}" if parts["begin"] else ""
    branches = "".join(_branch(role, parts[role], tokenizer) for role in ROLES)
    chat_template = (
        f"{begin}{{% for m in messages %}}{branches}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {_quoted(parts['answer'])} }}}}{{% endif %}}"
    )
    return {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": chat_template, "eos_token": END}


def _branch(role: Role, piece: str, tokenizer: Tokenizer) -> str:
    """What the Jinja template says of a message of one role."""
    before, after = piece.split(CONTENT)
    content = "m['content'].lstrip()" if f"<|{role}|>" in tokenizer.swallows_space_after else "m['content']"
    condition = f"{'if' if role == ROLES[0] else 'elif'} m['role'] == '{role}'"
    condition += " and m['content']" if role == "system" else ""
    return f"{{% {condition} %}}{{{{ {_quoted(before)} + {content} + {_quoted(after)} }}}}"


def template(tokenizer: Tokenizer) -> dict[str, str]:
    """The chat template in pieces, for a runtime whose special tokens swallow nothing.

    ``begin`` comes first, once; a message is its role's piece with ``{content}`` replaced; ``answer`` asks for an
    answer; ``next`` follows an answer when the user goes on, and begins with the ``<|end|>`` that closed it.
    """
    opening = f"{tokenizer.opens_with}" if tokenizer.opens_with is not None else ""
    text = lambda messages, generation=False: "".join(  # noqa: E731
        segment.text for segment in segments(messages, tokenizer, generation=generation)
    ).removeprefix(opening)
    pieces: dict[str, str] = {role: text([Message(role, CONTENT)]) for role in ROLES}
    user, assistant = Message("user", CONTENT), Message("assistant", CONTENT)
    pieces["answer"] = text([user], True).removeprefix(pieces["user"])
    after = text([assistant, user], True)
    pieces["next"] = after[after.index(END) :]
    return {"begin": opening, **pieces}


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
    taken = {*content["model"]["vocab"].values(), *(token["id"] for token in content["added_tokens"])}
    return [_added(id, f"<|unused_{id}|>") for id in sorted(set(range(max(taken) + 1)) - taken)]


def _added(id: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": name, **flags, "special": True}


def _quoted(text: str) -> str:
    """A Jinja string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
