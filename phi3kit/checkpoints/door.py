"""A public folder's way of writing conversations, compared once with ours, before any work.

Two conversations, with a system turn and without, and where there is a form for them one with tools and one with a
tool's answer. The folder's ids are those of its own template through its own tokenizer, as transformers'
`apply_chat_template` makes them. Where they are ours, ours is used; where not, the folder's template is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, final

import tokenizers

from phi3kit.checkpoints.chat_files import Said, read_chat_files
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import ChatForm, Message
from phi3kit.text import HuggingFaceTokenizer
from phi3kit.text.chat_form import with_form
from phi3kit.text.jinja_form import Writer
from phi3kit.text.template import END, render, stop_ids, stop_tokens

PLAIN = (
    Message("user", "Where is the harbour? \n"),
    Message("assistant", "Behind the wall."),
    Message("user", " And 2+2?"),
)
SYSTEM = (Message("system", "Be brief."), *PLAIN)
LOOK = {"type": "function", "function": {"name": "look", "description": "Look there.", "parameters": {}}}
TOOLS = (replace(SYSTEM[0], tools=(LOOK,)), *PLAIN)
ANSWERED = (*PLAIN, Message("assistant", "Let me look."), Message("tool", "4"))


class Found(NamedTuple):
    """The form a folder's conversations need, None for ours; and what to say of it."""

    form: ChatForm | None
    lines: list[str]


def compare_templates(folder: Path, tokenizer: Tokenizer) -> Found:
    """How the folder's model writes conversations, compared with how we do.

    Args:
        folder: the public folder.
        tokenizer: its tokenizer.

    Raises:
        UserError: its template cannot be used: why.
    """
    said = read_chat_files(folder, tokenizer)
    try:
        ours = stop_ids(tokenizer)
    except UserError:
        ours = []
    if not said.template:
        if not ours:
            return Found(None, [f"chat template: none, and the tokenizer has no {END} for ours; it cannot chat"])
        return _ours(said, ours, "none in the folder; ours is used")
    try:
        by = Writer(_form(said, said.stops), tokenizer.template_tokens)
        by.check_append_only()
        theirs = _Theirs(by, tokenizer, said.opens)
        if all(theirs.ids(turns) == _ids(turns, tokenizer) for turns in (PLAIN, SYSTEM)) and theirs.tools_as_ours():
            return _ours(said, ours, "the same as ours for 2 conversations")
        return _folders(said, by, theirs)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error


@final
class _Theirs:
    """A folder's ids of conversations, by its own tokenizer."""

    def __init__(self, by: Writer, tokenizer: Tokenizer, opens: bool) -> None:
        self.by, self.tokenizer, self.opens = by, tokenizer, opens

    def ids(self, turns: Sequence[Message]) -> list[int] | None:
        """Of a conversation that asks for an answer; None where it is refused, or not all of it is written."""
        try:
            text = self.by.text(turns, generation=True)
            self.by.check_said(turns, text)
        except UserError:
            return None
        if not isinstance(self.tokenizer, HuggingFaceTokenizer):
            return _ids(turns, with_form(self.tokenizer, self.by.form))
        own = tokenizers.Tokenizer.from_str(self.tokenizer.content)
        own.no_truncation()
        own.no_padding()
        return list(own.encode(text, add_special_tokens=self.opens).ids)

    def tools_as_ours(self) -> bool:
        """Whether tools and their answers are written as we write them, where we do."""
        tools, answered = (_ids(turns, self.tokenizer) for turns in (TOOLS, ANSWERED))
        return self.ids(TOOLS) == tools and (answered is None or self.ids(ANSWERED) == answered)


def _ids(turns: Sequence[Message], tokenizer: Tokenizer) -> list[int] | None:
    """Our ids of a conversation that asks for an answer; None where it is refused."""
    try:
        return render(turns, tokenizer, generation=True).ids
    except UserError:
        return None


def _ours(said: Said, ours: list[int], what: str) -> Found:
    """Our template; with the folder's stops beside ours, where it has others."""
    more = [id for id in said.stops if id not in ours]
    return Found(ChatForm("", (*ours, *more)) if more else None, [f"chat template: {what}"])


def _folders(said: Said, by: Writer, theirs: _Theirs) -> Found:
    """The folder's template, and its stops."""
    form = _form(said, _with_end(by, said.stops, theirs.tokenizer))
    if not form.stops:
        raise UserError("no token ends an answer: neither its chat template nor a config file names one")
    tokenizer = with_form(theirs.tokenizer, form)
    shape = by.text([Message("user", "…"), Message("assistant", "…")]).replace("\n", "⏎")
    lines = [f"chat template: the folder's own, {shape}", f"answers end with {' '.join(stop_tokens(tokenizer))}"]
    if _ids(SYSTEM, tokenizer) is None:
        lines.append("it has no form for a system turn: conversations with one are refused")
    if any(theirs.ids(turns) != _ids(turns, tokenizer) for turns in (PLAIN, SYSTEM)):
        lines.append("its ids differ from transformers': a token of it is found in another way there")
    return Found(form, lines)


def _form(said: Said, stops: Sequence[int]) -> ChatForm:
    return ChatForm(said.template, tuple(stops), said.tokens, said.tool_template)


def _with_end(by: Writer, stops: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """The folder's stops, the token that closes an answer in its template first."""
    _, after = by.text(PLAIN[:2], last=True).rsplit(PLAIN[1].content, 1)
    places = {after.index(name): id for name, id in tokenizer.template_tokens.items() if name in after}
    return list(dict.fromkeys([*([places[min(places)]] if places else []), *stops]))
