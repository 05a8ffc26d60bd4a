"""Any byte-complete BPE `tokenizer.json`: Phi-3's own, or one that `prepare` trained.

Two encoders are made from the file: the whole one decodes, and one without the added tokens encodes, so that
no text, whatever it says, yields a special id. Elsewhere both give the same ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import tokenizers

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer

FILE = "tokenizer.json"


@final
class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json` of the `tokenizers` library.

    Args:
        file: path of a tokenizer.json whose model is a BPE that can represent every text.
    """

    def __init__(self, file: str) -> None:
        try:
            content = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot read the tokenizer {file!r}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{file} is not a tokenizer.json: not UTF-8 at byte {error.start}") from error
        self._build(content, file)

    @classmethod
    def from_content(cls, content: str) -> HuggingFaceTokenizer:
        """From the text of a tokenizer.json."""
        tokenizer = cls.__new__(cls)
        tokenizer._build(content, "tokenizer.json")
        return tokenizer

    def _build(self, content: str, name: str) -> None:
        self._content = content
        self._json = _parse(content, name)
        self._special = {t["content"]: t["id"] for t in self._json["added_tokens"]}
        self._name_of = {id: name for name, id in self._special.items()}
        self._plain = tokenizers.Tokenizer.from_str(json.dumps(_without_added_tokens(self._json)))

    @property
    def content(self) -> str:
        """The file's text, as it was read."""
        return self._content

    @property
    def vocab_size(self) -> int:
        """Largest id + 1."""
        return max([*self._json["model"]["vocab"].values(), *self._special.values()]) + 1

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The file's added tokens, whether it calls them special or not."""
        return self._special

    @cached_property
    def swallows_space_after(self) -> frozenset[str]:
        """Added tokens with ``rstrip`` set: for Phi-3-mini (June 2024) every role token and ``<|end|>``."""
        return frozenset(t["content"] for t in self._json["added_tokens"] if t["rstrip"])

    @cached_property
    def swallows_space_before(self) -> frozenset[str]:
        """Added tokens with ``lstrip`` set, as phi-4's."""
        return frozenset(t["content"] for t in self._json["added_tokens"] if t["lstrip"])

    @cached_property
    def template_tokens(self) -> Mapping[str, int]:
        """Added tokens that are found in a text as it is written, before it is normalized."""
        found = (t for t in self._json["added_tokens"] if t["special"] or not t["normalized"])
        return {t["content"]: t["id"] for t in found}

    @property
    def opens_with(self) -> str | None:
        """The token the file's post-processor puts first (Phi-3-vision's ``<s>``)."""
        template = (self._json.get("post_processor") or {}).get("single") or [{}]
        return template[0].get("SpecialToken", {}).get("id")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; special tokens in it are text like any other."""
        return self._plain.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        return [e.ids for e in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids. Special ids appear as their names; the text between two of them is decoded alone,
        as it was encoded."""
        parts: list[str] = []
        run: list[int] = []  # ids since the last special one
        for id in ids:
            if id in self._name_of:
                parts += [self._plain.decode(run), self._name_of[id]]
                run = []
            else:
                run.append(id)
        return "".join([*parts, self._plain.decode(run)])

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, byte for byte as it was read."""
        (folder / FILE).write_text(self._content, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> HuggingFaceTokenizer:
        """Read what `save` wrote."""
        return cls(str(folder / FILE))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the file's content, white space and the order of its keys aside."""
        return hashlib.sha256(json.dumps(self._json, sort_keys=True).encode()).hexdigest()


def _parse(content: str, name: str) -> dict[str, Any]:
    """The file as JSON, if it is a BPE that can represent every text."""
    try:
        parsed = json.loads(content)
        kind, vocab = parsed["model"].get("type"), parsed["model"]["vocab"]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name} is not a tokenizer.json: {error}") from error
    if kind != "BPE":
        raise UserError(f"{name} holds a {kind} model; Phi models use BPE, nothing else is supported")
    alphabets = [tokenizers.pre_tokenizers.ByteLevel.alphabet(), {f"<0x{i:02X}>" for i in range(256)}]
    if not any(vocab.keys() >= set(alphabet) for alphabet in alphabets):
        raise UserError(f"{name} cannot represent every text: its vocabulary lacks some of the 256 bytes")
    return parsed


def _without_added_tokens(parsed: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer unable to yield an added token: none to match, no merge and no whole word to it."""
    added = {token["content"] for token in parsed["added_tokens"]}
    model = parsed["model"]
    merges = [m for m in model["merges"] if "".join(m.split(" ") if isinstance(m, str) else m) not in added]
    unknown = model.get("unk_token")
    vocab = {piece: id for piece, id in model["vocab"].items() if piece not in added or piece == unknown}
    return {
        **parsed,
        "added_tokens": [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
        "model": {**model, "merges": merges, "vocab": vocab, "dropout": None},
    }
