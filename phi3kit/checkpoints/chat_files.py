"""What a public folder says of conversations: its chat template, what that may call by name, and what ends an answer.

As transformers looks for them: `chat_template.jinja`, else `tokenizer_config.json`'s ``chat_template`` (a text, or a
list of named ones), else `chat_template.json`; `additional_chat_templates/` beside it. An answer ends as
`generation_config.json` says, else `config.json`, else the tokenizer's ``eos_token``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer

JINJA, CONFIG, ALONE, MORE = (
    "chat_template.jinja",
    "tokenizer_config.json",
    "chat_template.json",
    "additional_chat_templates",
)
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Said(NamedTuple):
    """What a folder says; `template` is empty where it has none, `stops` has only ids of added tokens.

    `opens`: a processor reads what the template wrote, and puts the tokenizer's opening token in front, which
    transformers' `apply_chat_template` does not.
    """

    template: str
    tool_template: str
    tokens: dict[str, str]
    stops: list[int]
    opens: bool


def read_chat_files(folder: Path, tokenizer: Tokenizer) -> Said:
    """What a folder says of conversations.

    Raises:
        UserError: a file is damaged.
    """
    config = _json(folder / CONFIG)
    templates = _templates(folder, config)
    tokens = {name: text for name in NAMED if (text := _token(config.get(name)))}
    extra = config.get("extra_special_tokens")
    if isinstance(extra, dict):
        tokens |= {name: text for name, value in extra.items() if (text := _token(value))}
    template = templates.get("default", next(iter(templates.values()), ""))
    opens = any((folder / name).is_file() for name in PROCESSORS)
    return Said(template, templates.get("tool_use", ""), tokens, _stops(folder, tokens, tokenizer), opens)


def forget_chat_files(folder: Path) -> None:
    """Take away the templates of another way of writing conversations, before `tokenizer_config.json` is written."""
    for file in (folder / JINJA, folder / ALONE, *(folder / MORE).glob("*.jinja")):
        file.unlink(missing_ok=True)


def _templates(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """Every template by its name."""
    found = config.get("chat_template") or _json(folder / ALONE).get("chat_template") or {}
    if isinstance(found, str):
        found = {"default": found}
    elif isinstance(found, list):
        found = {str(one.get("name")): one.get("template") for one in found if isinstance(one, dict)}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UserError(f"{folder / CONFIG}: chat_template must be a text, or a list of objects with name and template")
    if (folder / JINJA).is_file():
        found = found | {"default": _text(folder / JINJA)}
    more = sorted((folder / MORE).glob("*.jinja")) if (folder / MORE).is_dir() else []
    return found | {path.stem: _text(path) for path in more}


def _stops(folder: Path, tokens: dict[str, str], tokenizer: Tokenizer) -> list[int]:
    """Ids of tokens that end an answer."""
    for file in ("generation_config.json", "config.json"):
        ids = _json(folder / file).get("eos_token_id")
        ids = ids if isinstance(ids, list) else [ids]
        known = [id for id in ids if id in tokenizer.template_tokens.values()]
        if known:
            return list(dict.fromkeys(known))
    end = tokenizer.template_tokens.get(tokens.get("eos_token", ""))
    return [] if end is None else [end]


def _token(value: Any) -> str:
    """A token's text, which may stand alone or in an object with its flags."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def _json(path: Path) -> dict[str, Any]:
    """A file's object; of a file that is not there, an empty one."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; download it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object; download it again")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
