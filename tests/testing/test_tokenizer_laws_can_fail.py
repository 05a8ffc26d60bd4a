"""The laws of `Tokenizer` catch tokenizers that lose text, or let text make special tokens."""

from __future__ import annotations

import re
from typing import final

import pytest

from phi3kit.families import Tokenizer
from phi3kit.testing import contracts


class Bytes(Tokenizer):
    """One id per byte, two special tokens after them; not final, on purpose."""

    special = {"<|end|>": 256, "<|user|>": 257}

    @property
    def vocab_size(self):
        return 258

    @property
    def special_tokens(self):
        return self.special

    @property
    def swallows_space_after(self):
        return frozenset({"<|end|>"})

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        names = {number: name.encode() for name, number in self.special.items()}
        return b"".join(names.get(i, bytes([i % 256])) for i in ids).decode(errors="replace")

    def save(self, folder):
        (folder / "bytes.txt").write_text("bytes")

    @classmethod
    def load(cls, folder):
        (folder / "bytes.txt").read_text()
        return cls()

    @property
    def fingerprint(self):
        return "bytes"


@final
class Trims(Bytes):
    def encode(self, text):
        return super().encode(text.strip())


@final
class Obeys(Bytes):
    """Reads special tokens out of the text, as most tokenizers do by default."""

    def encode(self, text):
        parts = re.split("(" + "|".join(map(re.escape, self.special)) + ")", text)
        return [i for part in parts for i in ([self.special[part]] if part in self.special else part.encode())]


@final
class TooSmall(Bytes):
    @property
    def vocab_size(self):
        return 257


@final
class Forgetful(Bytes):
    def __init__(self):
        self.special = {**Bytes.special, "<|new|>": 255}

    @classmethod
    def load(cls, folder):
        loaded = cls()
        loaded.special = Bytes.special
        return loaded


@final
class Nameless(Bytes):
    def decode(self, ids):
        return super().decode(i for i in ids if i < 256)


def test_lawful_tokenizer():
    contracts.check(Bytes)


@pytest.mark.parametrize(
    ("component", "law"),
    [
        (Trims, r"decode\(encode\(s\)\) == s"),
        (Obeys, "never yields a special id"),
        (TooSmall, "below vocab_size"),
        (Forgetful, "loads as itself"),
        (Nameless, "decoded to its name"),
    ],
)
def test_lawless_tokenizer(component, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(component)
