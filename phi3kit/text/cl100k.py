"""Phi-3-small's tokenizer: tiktoken's cl100k_base with chat tokens (Hugging Face `tokenization_phi3_small.py`).

The ranks file is not shipped; OpenAI publishes it as `cl100k_base.tiktoken`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import final

import tiktoken

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.text.characters import half_character

FILE = "cl100k_base.tiktoken"

N_RANKS = 100256
N_ROWS = 100352  # rows of Phi-3-small's embedding

# https://github.com/openai/tiktoken, `tiktoken_ext/openai_public.py`, the pattern of cl100k_base
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s"
)

# https://huggingface.co/microsoft/Phi-3-small-8k-instruct, `tokenization_phi3_small.py`
NAMED = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|system|>": 100261,
    "<|user|>": 100262,
    "<|assistant|>": 100263,
    "<|end|>": 100266,
    "<|endofprompt|>": 100276,
}


def _special_tokens() -> dict[str, int]:
    """The named tokens, and a dummy for every other id up to the last row."""
    free = [id for id in range(N_RANKS, N_ROWS) if id not in NAMED.values()]
    return {**NAMED, **{f"<|dummy_{i}|>": id for i, id in enumerate(free)}}


@final
class Cl100kTokenizer(Tokenizer):
    """tiktoken's cl100k_base with Phi-3-small's special tokens.

    Args:
        file: path of `cl100k_base.tiktoken`.
    """

    def __init__(self, file: str) -> None:
        try:
            self._content = Path(file).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read the tokenizer {file!r}: {error.strerror}") from error
        self.ranks = _ranks(self._content, file)
        self._special = _special_tokens()
        self._encoding = tiktoken.Encoding(
            "cl100k_phi3_small",
            pat_str=PATTERN,
            mergeable_ranks=self.ranks,
            special_tokens=self._special,
        )

    @property
    def vocab_size(self) -> int:
        """Largest id + 1."""
        return N_ROWS

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Named tokens and dummies."""
        return self._special

    @property
    def swallows_space_after(self) -> frozenset[str]:
        """None of them does."""
        return frozenset()

    @property
    def opens_with(self) -> str | None:
        """Phi-3-small's template begins with its bos, which is its end of text."""
        return "<|endoftext|>"

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; special tokens in it are text like any other."""
        if (complaint := half_character(text)) is not None:  # which tiktoken would put U+FFFD for
            raise complaint
        return self._encoding.encode_ordinary(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on several threads."""
        if (complaint := next(filter(None, map(half_character, texts)), None)) is not None:
            raise complaint
        return self._encoding.encode_ordinary_batch(list(texts))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special ids appear as their names, bytes that are not UTF-8 as U+FFFD."""
        return self._encoding.decode(list(ids))

    def save(self, folder: Path) -> None:
        """Write the ranks as they were read."""
        (folder / FILE).write_bytes(self._content)

    @classmethod
    def load(cls, folder: Path) -> Cl100kTokenizer:
        """Read what `save` wrote."""
        return cls(str(folder / FILE))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the ranks, the pattern and the special tokens."""
        rest = f"{PATTERN}\n{sorted(self._special.items())}".encode()
        return hashlib.sha256(self._content + rest).hexdigest()


def _ranks(content: bytes, name: str) -> dict[bytes, int]:
    """Lines of base64 bytes and rank, `N_RANKS` of them."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            piece, rank = line.split()
            ranks[base64.b64decode(piece, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise UserError(f"{name}:{number}: 'BASE64 RANK' is expected, got {line[:60]!r}") from error
    if len(ranks) != N_RANKS:
        raise UserError(f"{name} has {len(ranks)} ranks; cl100k_base has {N_RANKS}")
    return ranks
