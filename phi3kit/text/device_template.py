"""The chat template as apps use it: in pieces to join, and as Jinja made of the pieces; and a bundle's tokenizer again.

A device's special tokens swallow nothing, so there is no white space that they swallow in training. The pieces are
found by writing conversations, whoever's template writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import ChatForm, Message, Role
from phi3kit.text.hugging_face import HuggingFaceTokenizer
from phi3kit.text.template import segments, stop_ids, stop_tokens

CONTENT = "{content}"  # where a message goes in a piece
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
STRIPPED = {f" {CONTENT} ": "", f"{CONTENT} ": ".lstrip()", f" {CONTENT}": ".rstrip()", CONTENT: ".strip()"}


def template(tokenizer: Tokenizer) -> dict[str, str]:
    """The chat template in pieces, for a runtime whose special tokens swallow nothing.

    ``begin`` comes first, once; a message is its role's piece with ``{content}`` replaced; ``answer`` asks for an
    answer; ``next`` follows an answer when the user goes on, and begins with the token that closed it. There is no
    ``system`` where a model's template has none that stands by itself.

    Raises:
        UserError: the template is not made of such pieces.
    """
    user, assistant = Message("user", CONTENT), Message("assistant", CONTENT)
    one, two, three = (_text([user, assistant, user][:turns], tokenizer) for turns in (1, 2, 3))
    pieces = {"user": three[len(two) :], "assistant": two[len(one) :]}
    pieces["answer"] = _text([user], tokenizer, generation=True)[len(one) :]
    begin = one.removesuffix(pieces["user"])
    talk = begin + 2 * (pieces["user"] + pieces["assistant"]) + pieces["user"] + pieces["answer"]
    if talk != _text([user, assistant, user, assistant, user], tokenizer, generation=True):
        raise UserError(
            "the chat template is not made of pieces, one for each role, that an app could join: what it writes of a "
            "turn depends on others; export cannot put it into a bundle"
        )
    _, after = pieces["assistant"].split(CONTENT)
    places = [after.index(stop) for stop in stop_tokens(tokenizer) if stop in after]
    following = after[min(places, default=0) :] + pieces["user"] + pieces["answer"]
    return {"begin": begin, **_system(begin, pieces["user"], tokenizer), **pieces, "next": following}


def _system(begin: str, user: str, tokenizer: Tokenizer) -> dict[str, str]:
    """The piece of a system turn, if there is one."""
    try:
        text = _text([Message("system", CONTENT), Message("user", CONTENT)], tokenizer)
    except UserError:
        return {}
    piece = text.removeprefix(begin).removesuffix(user)
    return {"system": piece} if text == begin + piece + user and piece.count(CONTENT) == 1 else {}


def _text(messages: Sequence[Message], tokenizer: Tokenizer, *, generation: bool = False) -> str:
    return "".join(segment.text for segment in segments(messages, tokenizer, generation=generation))


def device_tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of a ``tokenizer_config.json``: the template as Jinja, and the token that ends an answer.

    A conversation's text is a prefix of its continuation's, which react-native-executorch requires. As in training, a
    system message without content is left out, and white space that is not read in training is taken from contents.
    """
    parts = template(tokenizer)
    begin = f"{{{{ {_quoted(parts['begin'])} }}}}" if parts["begin"] else ""
    branches = "".join(_branch(role, parts, tokenizer) for role in ROLES)
    chat_template = (
        f"{begin}{{% for m in messages %}}{branches}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {_quoted(parts['answer'])} }}}}{{% endif %}}"
    )
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": chat_template,
        "eos_token": stop_tokens(tokenizer)[0],
    }


def _branch(role: Role, parts: Mapping[str, str], tokenizer: Tokenizer) -> str:
    """What the Jinja template says of a message of one role."""
    condition = f"{'if' if role == ROLES[0] else 'elif'} m['role'] == '{role}'"
    condition += " and m['content']" if role == "system" else ""
    if role not in parts:
        return f"{{% {condition} %}}{{{{ raise_exception('this model has no {role} turns') }}}}"
    before, after = parts[role].split(CONTENT)
    said = f"{_quoted(before)} + m['content']{_stripped(role, parts, tokenizer)} + {_quoted(after)}"
    return f"{{% {condition} %}}{{{{ {said} }}}}"


def _stripped(role: Role, parts: Mapping[str, str], tokenizer: Tokenizer) -> str:
    """How white space is taken from a role's contents: by a token that swallows it, or by the template."""
    spaced, user = Message(role, f" {CONTENT} "), Message("user", CONTENT)
    around = {"system": [spaced, user], "user": [spaced], "assistant": [user, spaced]}[role]
    text = _text(around, tokenizer).removeprefix(parts["begin"])
    for left, how in STRIPPED.items():
        turns = {"user": [("user", left)], "assistant": [("user", CONTENT), ("assistant", left)]}
        turns["system"] = [("system", left), ("user", CONTENT)]
        if text == "".join(parts[name].replace(CONTENT, content) for name, content in turns[role]):
            return how
    return ""


def tokenizer_of_bundle(about: Mapping[str, Any], folder: Path) -> HuggingFaceTokenizer:
    """A bundle's tokenizer, with its way of writing conversations.

    Args:
        about: the content of bundle.json.
        folder: where its files are.
    """
    tokenizer = HuggingFaceTokenizer(str(folder / about["tokenizer"]))
    if "template" not in about:  # it says nothing of conversations
        return tokenizer
    stops = tuple(about["stop"]["ids"])
    try:
        ours = template(tokenizer) == about["template"]
    except UserError:
        ours = False
    if ours:
        if not set(stops) <= set(stop_ids(tokenizer)):
            tokenizer.chat_form = ChatForm("", stops)
        return tokenizer
    config = json.loads((folder / about["tokenizer_config"]).read_text(encoding="utf-8"))
    tokenizer.chat_form = ChatForm(config["chat_template"], stops)
    return tokenizer


def _quoted(text: str) -> str:
    """A Jinja string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
