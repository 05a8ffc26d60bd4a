"""What a `tokenizer.json` says, and the encoders that are made of it.

Three kinds of tokens can come from a file. *Pieces* are the BPE's. *Words* were added whole, `special: false`; text
yields them, as the `tokenizers` library matches them. *Special* tokens belong to the chat template and to nobody who
writes text. A special token may be a piece as well, from which longer pieces are merged; then it stays in the
vocabulary, and where it would be the last word on a text, the two pieces that it was merged from stand in for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers

from phi3kit.errors import UserError

Json = dict[str, Any]

# Tokens that divide a conversation into turns are special, whatever a file calls them.
DIVIDERS = frozenset(
    (
        "<|endoftext|>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
        "<|im_start|>",
        "<|im_sep|>",
        "<|im_end|>",
    )
)
AWKWARD = "\x00\x7f é ß 東京 🙂 \u200b\t\n"  # a text that a vocabulary with holes cannot write


def parse(content: str, name: str) -> Json:
    """The file as JSON, if it is a BPE that can represent every text. Raises `UserError`."""
    try:
        parsed = json.loads(content.removeprefix("\ufeff"))
        kind, vocab, added = parsed["model"].get("type"), parsed["model"]["vocab"], parsed.get("added_tokens") or []
        names = [(token["content"], token["id"]) for token in added]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name} is not a tokenizer.json: {error}") from error
    if kind != "BPE":
        raise UserError(f"{name} holds a {kind} model; Phi models use BPE, nothing else is supported")
    alphabets = [tokenizers.pre_tokenizers.ByteLevel.alphabet(), {f"<0x{i:02X}>" for i in range(256)}]
    if not any(vocab.keys() >= set(alphabet) for alphabet in alphabets):
        raise UserError(f"{name} cannot represent every text: its vocabulary lacks some of the 256 bytes")
    if not all(isinstance(token, str) and token and isinstance(id, int) for token, id in names):
        raise UserError(f"{name} is not a tokenizer.json: an added token has no content or no number")
    return parsed


def added_tokens(parsed: Json) -> tuple[list[Json], list[Json]]:
    """The special tokens of a file, and its words.

    A special token that is a letter of the alphabet, such as a padding ``!``, counts as a word: no text could do
    without it.
    """
    vocab, opening = parsed["model"]["vocab"], opens_with(parsed)
    special: list[Json] = []
    words: list[Json] = []
    for token in parsed.get("added_tokens") or []:
        name = token["content"]
        letter = len(name) == 1 and name in vocab
        divides = name in DIVIDERS or name == opening
        (special if divides or (token.get("special", False) and not letter) else words).append(token)
    return special, words


def opens_with(parsed: Json) -> str | None:
    """The token that the file's post-processor puts in front of a text; None where it puts none."""
    step = parsed.get("post_processor") or {}
    for inner in step.get("processors", [step]):
        first = (inner.get("single") or [{}])[0] if inner.get("type") == "TemplateProcessing" else {}
        if "SpecialToken" in first:
            return str(first["SpecialToken"]["id"])
    return None


def encoder(parsed: Json, name: str, *, inside: bool = False) -> tokenizers.Tokenizer:
    """The library's tokenizer of a file, made unable to match a special token in text.

    Args:
        parsed: the file.
        name: what it is called.
        inside: for text that follows a special token: what only begins a text is left out.

    Raises:
        UserError: the library cannot read the file, or the vocabulary cannot write some text.
    """
    special, words = added_tokens(parsed)
    names = {token["content"] for token in special}
    added = [{**token, "special": token["content"] in names} for token in parsed.get("added_tokens") or []]
    file = {
        **parsed,
        "added_tokens": added if words else [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
        "model": {**parsed["model"], "dropout": None},
    }
    file = as_inside(file) if inside else file
    try:
        made = tokenizers.Tokenizer.from_str(json.dumps(file))
    except Exception as error:  # the library raises nothing finer
        raise UserError(f"the tokenizers library cannot read {name}: {error}") from error
    made.encode_special_tokens = True  # in text they are text
    unknown = parsed["model"].get("unk_token")
    if unknown is not None and unknown in made.encode(AWKWARD, add_special_tokens=False).tokens:
        raise UserError(f"{name} cannot represent every text: it reads some as {unknown}; switch byte_fallback on")
    return made


def begins_texts(parsed: Json) -> bool:
    """Whether the beginning of a text is encoded otherwise than what follows a special token."""
    return as_inside(parsed) != parsed


def as_inside(parsed: Json) -> Json:
    """The file for text that does not begin a text: a mark that only the first piece gets is not given, and none is
    taken away."""
    before = parsed.get("pre_tokenizer")
    after = _unmarked(before)
    if after == before:
        return parsed
    return {**parsed, "pre_tokenizer": after, "decoder": _keeping_spaces(parsed.get("decoder"))}


def _unmarked(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    if step.get("type") == "Sequence":
        return {**step, "pretokenizers": [_unmarked(inner) for inner in step["pretokenizers"]]}
    marks = step.get("type") == "Metaspace" and step.get("prepend_scheme") == "first"
    return {**step, "prepend_scheme": "never"} if marks else step


def _keeping_spaces(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    if step.get("type") == "Sequence":
        return {**step, "decoders": [_keeping_spaces(inner) for inner in step["decoders"]]}
    if step.get("type") == "Strip":
        return {**step, "start": 0}
    return {**step, "prepend_scheme": "never"} if step.get("type") == "Metaspace" else step


def stand_ins(parsed: Json) -> dict[int, list[int]]:
    """What the ids of special tokens that the BPE itself could yield are to be replaced by."""
    model, special = parsed["model"], added_tokens(parsed)[0]
    vocab: Mapping[str, int] = model["vocab"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    names = {token["content"] for token in special} & vocab.keys() - {model.get("unk_token")}
    made = names if model.get("ignore_merges") else names.intersection(first + second for first, second in merges)
    if not made:
        return {}
    others = [(first, second) for first, second in merges if first + second not in names]
    bpe = tokenizers.models.BPE(
        vocab=dict(vocab),
        merges=others,
        unk_token=model.get("unk_token"),
        fuse_unk=bool(model.get("fuse_unk")),
        byte_fallback=bool(model.get("byte_fallback")),
    )
    return {vocab[name]: [token.id for token in bpe.tokenize(name)] for name in made}


def moved_words(parsed: Json, made: tokenizers.Tokenizer) -> dict[int, list[int]]:
    """Ids that the library counts for words, and those that the file says; only where they differ."""
    ids: Iterable[tuple[int | None, int]] = (
        (made.token_to_id(word["content"]), word["id"]) for word in added_tokens(parsed)[1]
    )
    return {counted: [said] for counted, said in ids if counted is not None and counted != said}
