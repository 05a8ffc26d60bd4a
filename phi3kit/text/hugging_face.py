"""Any byte-complete BPE `tokenizer.json`: Phi-3's own, or one that `prepare` trained.

Text gives the ids that the `tokenizers` library gives it, words that were added to the vocabulary included. Special
tokens are the exception: no text, whatever it says, yields one.
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
from phi3kit.text import tokenizer_json
from phi3kit.text.characters import half_character

FILE = "tokenizer.json"


@final
class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json` of the `tokenizers` library.

    Args:
        file: path of a tokenizer.json whose model is a BPE that can represent every text.
    """

    def __init__(self, file: str) -> None:
        try:
            content = Path(file).read_text(encoding="utf-8-sig")
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
        self._content, self._name = content.removeprefix("\ufeff"), name
        self._json = tokenizer_json.parse(content, name)
        special, words = tokenizer_json.added_tokens(self._json)
        self._special = {t["content"]: t["id"] for t in special}
        self._words = {t["content"]: t["id"] for t in words}
        self._plain = tokenizer_json.encoder(self._json, name)
        self._instead = tokenizer_json.stand_ins(self._json) | tokenizer_json.moved_words(self._json, self._plain)
        self._name_of = {t["id"]: t["content"] for t in (*special, *words) if t in special or not t.get("normalized")}
        self._piece_of = {t["id"]: self._piece(t["content"]) for t in words if t.get("normalized")}

    def _piece(self, word: str) -> str:
        """A word that is matched in normalised text, as the decoder reads pieces."""
        if "ByteLevel" in json.dumps(self._json.get("decoder")):
            level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            return "".join(piece for piece, _ in level.pre_tokenize_str(word))
        return self._plain.normalizer.normalize_str(word) if self._plain.normalizer else word

    @cached_property
    def _inside(self) -> tokenizers.Tokenizer:
        """The encoder of text that follows a special token."""
        if not tokenizer_json.begins_texts(self._json):
            return self._plain
        return tokenizer_json.encoder(self._json, self._name, inside=True)

    @property
    def content(self) -> str:
        """The file's text, as it was read."""
        return self._content

    @cached_property
    def vocab_size(self) -> int:
        """Largest id + 1."""
        return max([*self._json["model"]["vocab"].values(), *self._special.values(), *self._words.values()]) + 1

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The file's special tokens, and those of the chat template whether it calls them special or not."""
        return self._special

    @property
    def words(self) -> Mapping[str, int]:
        """The file's added tokens that are not special."""
        return self._words

    @cached_property
    def swallows_space_after(self) -> frozenset[str]:
        """Added tokens with ``rstrip`` set: for Phi-3-mini (June 2024) every role token and ``<|end|>``."""
        return frozenset(t["content"] for t in self._json.get("added_tokens") or [] if t.get("rstrip"))

    @cached_property
    def swallows_space_before(self) -> frozenset[str]:
        """Added tokens with ``lstrip`` set, as phi-4's."""
        return frozenset(t["content"] for t in self._json.get("added_tokens") or [] if t.get("lstrip"))

    @cached_property
    def template_tokens(self) -> Mapping[str, int]:
        """Added tokens that are found in a text as it is written, before it is normalized."""
        return {name: id for id, name in self._name_of.items()}

    @property
    def opens_with(self) -> str | None:
        """The token the file's post-processor puts first (Phi-3-vision's ``<s>``)."""
        return tokenizer_json.opens_with(self._json)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens in it are text like any other."""
        return self._ids(self._plain, text)

    def encode_after(self, text: str) -> list[int]:
        """Ids of a text that follows a special token."""
        return self._ids(self._inside, text)

    def _ids(self, encoder: tokenizers.Tokenizer, text: str) -> list[int]:
        try:
            return self._replaced(encoder.encode(text, add_special_tokens=False).ids)
        except TypeError as error:
            raise half_character(text) or error from error

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        try:
            encoded = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError as error:
            raise next(filter(None, map(half_character, texts)), error) from error
        return [self._replaced(e.ids) for e in encoded]

    def _replaced(self, ids: list[int]) -> list[int]:
        if not self._instead:
            return ids
        return [new for id in ids for new in self._instead.get(id, (id,))]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids. Special ids appear as their names; the text between two of them is decoded alone,
        as it was encoded."""
        parts: list[str] = []
        run: list[int] = []  # ids since the last that has a name
        for id in ids:
            if id in self._name_of:
                parts += [self._text(run, begins=not parts), self._name_of[id]]
                run = []
            else:
                run.append(id)
        return "".join([*parts, self._text(run, begins=not parts)])

    def _text(self, run: list[int], begins: bool) -> str:
        decoder = self._plain if begins else self._inside
        if self._piece_of.keys().isdisjoint(run) or decoder.decoder is None:
            return decoder.decode(run)
        pieces = (self._piece_of.get(id) or decoder.id_to_token(id) for id in run)
        return decoder.decoder.decode([piece for piece in pieces if piece is not None])

    def save(self, folder: Path) -> None:
        """Write tokenizer.json as it was read."""
        (folder / FILE).write_text(self._content, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> HuggingFaceTokenizer:
        """Read what `save` wrote."""
        return cls(str(folder / FILE))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the file's content, white space and the order of its keys aside."""
        return hashlib.sha256(json.dumps(self._json, sort_keys=True).encode()).hexdigest()

    @property
    def parsed(self) -> Mapping[str, Any]:
        """The file's content as JSON."""
        return self._json
