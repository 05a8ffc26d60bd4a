"""The chat template as apps render it: in JavaScript, where Node.js and @huggingface/jinja are here; in Python anyway.

react-native-executorch 0.10 gives a template `messages`, `tools` and `add_generation_prompt` and nothing else: a
``bos_token`` is undefined, and written as nothing. It reads what each message adds to the text so far, and refuses a
template that changes the text so far (its `chatPreprocessor.ts`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from phi3kit.families import Tokenizer
from phi3kit.native_output import silenced
from phi3kit.records import Message, Role
from phi3kit.text.device_template import template as pieces_of
from phi3kit.text.template import render, stop_tokens

PACKAGE = "@huggingface/jinja"
SECONDS = 60  # that Node.js may take
TURNS: tuple[Role, ...] = ("user", "assistant", "user", "assistant", "user")
SCRIPT = """
const fs = require('fs'), path = require('path'), name = '@huggingface/jinja', node = process.version
const answer = () => {
  let jinja, where
  try { where = require.resolve(name), jinja = require(name) } catch (error) { return { node, missing: true } }
  const version = JSON.parse(fs.readFileSync(path.join(path.dirname(where), '..', 'package.json'))).version
  const { template, asked } = JSON.parse(fs.readFileSync(0, 'utf8'))
  try {
    const made = new jinja.Template(template)
    const write = ([messages, ask]) => made.render({ tools: undefined, messages, add_generation_prompt: ask })
    return { node, version, texts: asked.map(write) }
  } catch (error) { return { node, version, error: String(error.message) } }
}
process.stdout.write(JSON.stringify(answer()))
"""


class Asked(NamedTuple):
    """A rendering: the first `messages` of a conversation, and whether an answer is asked for."""

    chat: int
    messages: int
    ask: bool


class Answer(NamedTuple):
    """What a renderer made of a template: its texts, or why it could not be asked; `error`: it refused the template."""

    renderer: str
    texts: list[str]
    not_run: str = ""
    error: str = ""


def check_chat_template(
    config: Path, device_tokenizer: Path, tokenizer: Tokenizer, texts: Sequence[str]
) -> dict[str, Any]:
    """Render conversations message by message, and compare the device's ids of them with the model's own.

    Args:
        config: the device's tokenizer_config.json.
        device_tokenizer: the device's tokenizer.json.
        tokenizer: the one the model was trained with.
        texts: what people might write; those with special tokens in them are left out.

    Returns:
        ``conversations``, ``renderings``: how many; ``renderers``: who rendered; ``not_run``: why JavaScript did not;
        ``faults``: what is wrong, one line each.
    """
    content = json.loads(config.read_text(encoding="utf-8"))
    faults = [f"{config.name}: {fault}" for fault in _lacks(content, stop_tokens(tokenizer)[0])]
    if faults:
        return {"conversations": 0, "renderings": 0, "renderers": [], "not_run": "", "faults": faults}
    plain = [text for text in texts if not any(name in text for name in tokenizer.template_tokens)]
    chats = list(_chats(plain, systems="system" in pieces_of(tokenizer)))
    asked = list(_asked(chats))
    told = [([{"role": m.role, "content": m.content} for m in chats[a.chat][: a.messages]], a.ask) for a in asked]
    python, javascript = (render_in(content["chat_template"], told) for render_in in (in_python, in_javascript))
    for answer in (python, javascript):
        if answer.error:
            faults.append(f"{answer.renderer} refuses the template: {answer.error}")
        elif not answer.not_run:
            rendered = dict(zip(asked, answer.texts, strict=True))
            faults += [f"{answer.renderer}: {f}" for f in _differences(chats, rendered, device_tokenizer, tokenizer)]
    counts = {"conversations": len(chats), "renderings": len(asked)}
    renderers = [answer.renderer for answer in (python, javascript) if not answer.not_run]
    return {**counts, "renderers": renderers, "not_run": javascript.not_run, "faults": faults}


def in_python(template: str, told: Sequence[tuple[list[dict[str, str]], bool]]) -> Answer:
    """The texts, by Python's own Jinja, in which undefined names are written as nothing too."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    renderer = f"jinja2 {version('jinja2')} in Python"
    try:
        made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
        return Answer(renderer, [made.render(messages=messages, add_generation_prompt=ask) for messages, ask in told])
    except (TemplateError, TypeError) as error:
        return Answer(renderer, [], error=str(error))


def in_javascript(template: str, told: Sequence[tuple[list[dict[str, str]], bool]]) -> Answer:
    """The texts, by @huggingface/jinja in Node.js, which looks for it here, in the folders above and in NODE_PATH."""
    node = shutil.which("node")
    if node is None:
        return Answer("", [], f"there is no Node.js here; install it, and `npm install {PACKAGE}`")
    given = json.dumps({"template": template, "asked": told})
    try:
        done = subprocess.run([node, "-e", SCRIPT], input=given, capture_output=True, text=True, timeout=SECONDS)
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return Answer("", [], f"Node.js at {node} does not answer: {error}")
    if "missing" in answer:
        how = f"`npm install {PACKAGE}` in this folder, or name its node_modules in NODE_PATH"
        return Answer("", [], f"Node.js {answer['node']} finds no {PACKAGE}; {how}")
    renderer = f"{PACKAGE} {answer['version']} in Node.js {answer['node']}"
    return Answer(renderer, answer.get("texts", []), error=answer.get("error", ""))


def _lacks(content: Mapping[str, Any], end: str) -> Iterator[str]:
    """What react-native-executorch does not load without, and what it shows if it is another."""
    if not isinstance(content.get("chat_template"), str):
        yield "chat_template is no text"
    if content.get("eos_token") != end:
        yield f"eos_token is {content.get('eos_token')!r}, not {end!r}: apps would show the token that ends an answer"


def _chats(texts: Sequence[str], systems: bool) -> Iterator[list[Message]]:
    """Conversations of all texts: three questions and two answers each, every other one with a system message, where
    the model has any."""
    for start in range(0, len(texts), len(TURNS)):
        some = texts[start : start + len(TURNS)]
        turns = [Message(role, text) for role, text in zip(TURNS, some, strict=False)]
        system = Message("system", ["Be brief.", ""][start // len(TURNS) // 2 % 2])
        yield [system, *turns] if start % 2 and systems else turns


def _asked(chats: Sequence[Sequence[Message]]) -> Iterator[Asked]:
    for number, chat in enumerate(chats):
        for count, last in enumerate(chat, start=1):
            yield Asked(number, count, False)
            if last.role == "user":
                yield Asked(number, count, True)


def _differences(
    chats: Sequence[Sequence[Message]], texts: Mapping[Asked, str], device_tokenizer: Path, tokenizer: Tokenizer
) -> list[str]:
    """Where a text is no prefix of its continuation, or its ids are not the model's, at once or message by message."""
    with silenced():
        from pytorch_tokenizers import CppHFTokenizer

        device = CppHFTokenizer()
        device.load(str(device_tokenizer))
        faults: list[str] = []
        for number, chat in enumerate(chats):
            before, added = "", list[int]()
            for count in range(1, len(chat) + 1):
                text, place = texts[Asked(number, count, False)], f"conversation {number}, {count} messages"
                question = texts.get(Asked(number, count, True), text)
                if not text.startswith(before) or not question.startswith(text):
                    faults.append(f"{place}: the text so far changes; it must be appended to")
                    break
                added += device.encode(text[len(before) :], 0, 0) if text != before else []
                wanted = render(chat[:count], tokenizer).ids
                asking = render(chat[:count], tokenizer, generation=question != text).ids
                if device.encode(text, 0, 0) != wanted or device.encode(question, 0, 0) != asking:
                    faults.append(f"{place}: {text[-60:]!r} has other ids than in training")
                elif added != wanted:
                    faults.append(f"{place}: read message by message it has other ids than at once")
                before = text
    return faults
