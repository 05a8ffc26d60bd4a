"""The added tokens of a public folder, which several of its files name, as transformers 5 reads them.

tokenizer.json has them first. ``added_tokens_decoder`` in tokenizer_config.json changes their flags and adds others;
where that is missing, added_tokens.json and special_tokens_map.json of older releases add theirs. What is named as
``bos_token`` and the like, or as additional special token, is added where nothing else names it (transformers 5.24,
`PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__`). The library gives the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from phi3kit.json_files import read_object

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MORE = ("extra_special_tokens", "additional_special_tokens")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def with_neighbours(content: str, folder: Path, rows: int) -> str:
    """The text of a tokenizer.json with the added tokens that its folder's other files name; unchanged where they
    name no others.

    Args:
        content: the file's text.
        folder: where its neighbours are.
        rows: of the embedding. A special token that only a neighbour names and that has no row is left out.
    """
    config = _json(folder / CONFIG)
    if not config and not (folder / MAP).is_file() and not (folder / ADDED).is_file():
        return content
    parsed = json.loads(content)
    made = tokenizers.Tokenizer.from_str(content)
    before = made.get_added_tokens_decoder()
    listed: dict[str, dict[str, Any]] = config.get("added_tokens_decoder") or {}
    decoder = {int(id): _token(token, special=False) for id, token in listed.items()}
    if "added_tokens_decoder" not in config:
        config = config | _json(folder / MAP)
        named = {_name(token) for token in _named(config)}
        for name, id in _json(folder / ADDED).items():
            decoder[id] = AddedToken(name, normalized=name not in named, special=name in named)
        decoder |= before
    said = {token.content: token for token in decoder.values()}
    there = {repr(token) for token in before.values()}
    new = [token for _, token in sorted(decoder.items()) if repr(token) not in there]
    known = {token.content for token in (*before.values(), *new)}
    for named_token in _named(config):
        if (name := _name(named_token)) not in known:
            known.add(name)
            new.append(said.get(name) or _token(named_token, special=True))
    must = {_name(config[key]) for key in NAMED if config.get(key)}
    for token in new:
        token.special = token.special or token.content in must
    made.add_tokens(new)
    old = {token["content"] for token in parsed.get("added_tokens") or []}
    after = [
        {"id": id, "content": token.content, **{flag: getattr(token, flag) for flag in FLAGS}}
        for id, token in sorted(made.get_added_tokens_decoder().items())
        if id < rows or token.content in old or not token.special
    ]
    if after == sorted(parsed.get("added_tokens") or [], key=lambda token: token["id"]):
        return content
    return json.dumps({**parsed, "added_tokens": after}, ensure_ascii=False)


def _named(config: dict[str, Any]) -> Iterator[str | dict[str, Any]]:
    """What a config calls special by name."""
    yield from (config[key] for key in NAMED if config.get(key))
    yield from (v for key, v in config.items() if key.endswith("_token") and key not in NAMED and isinstance(v, str))
    first, second = MORE
    more = config.get(first) or config.get(second) or []
    yield from (more.values() if isinstance(more, dict) else more)


def _name(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _token(token: str | dict[str, Any], *, special: bool) -> AddedToken:
    """A token as a file describes it; `special` where the file does not say."""
    if isinstance(token, str):
        return AddedToken(token, special=special)
    flags = {flag: bool(token[flag]) for flag in FLAGS if flag in token}
    return AddedToken(_name(token), **{"special": special, **flags})


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; of a file that is not there, an empty one."""
    return read_object(path) if path.is_file() else {}
