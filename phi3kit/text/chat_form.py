"""A model's own way of writing conversations travels with its tokenizer: into runs, data and bundles, and back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, TypeVar

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import ChatForm

TEMPLATE, TOOL_TEMPLATE = "chat_template.jinja", "tool_use.jinja"

AnyTokenizer = TypeVar("AnyTokenizer", bound=Tokenizer)


def with_form(tokenizer: AnyTokenizer, form: ChatForm | None) -> AnyTokenizer:
    """The same tokenizer, of a model that writes conversations in this way."""
    other = copy.copy(tokenizer)
    other.chat_form = form
    return other


def save_form(form: ChatForm | None, folder: Path) -> dict[str, Any]:
    """Write the templates beside a tokenizer; returns what its `about.json` says more."""
    sources = {TEMPLATE: form.template, TOOL_TEMPLATE: form.tool_template} if form else {}
    for name in (TEMPLATE, TOOL_TEMPLATE):
        if sources.get(name):
            (folder / name).write_bytes(sources[name].encode())
        else:
            (folder / name).unlink(missing_ok=True)
    return {"chat": {"stops": list(form.stops), "tokens": form.tokens}} if form else {}


def load_form(about: dict[str, Any], folder: Path) -> ChatForm | None:
    """What `save_form` wrote; None for folders without: the family's own template.

    Raises:
        UserError: it is damaged.
    """
    if "chat" not in about:
        return None
    sources = {}
    for name in (TEMPLATE, TOOL_TEMPLATE):
        path = folder / name
        sources[name] = path.read_bytes().decode() if path.is_file() else ""
    try:
        stops, tokens = about["chat"]["stops"], about["chat"]["tokens"]
        return ChatForm(sources[TEMPLATE], tuple(map(int, stops)), dict(tokens), sources[TOOL_TEMPLATE])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the chat template of the tokenizer in {folder} is damaged: {error}") from error
