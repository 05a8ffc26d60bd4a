"""tiktoken's ranks as a byte-level BPE of the `tokenizers` library, which gives the same ids."""

from __future__ import annotations

import itertools
from typing import Any

# cl100k's pattern in the syntax `tokenizers` (Oniguruma) and PCRE2 share: there `{1,3}+` is no possessive
# quantifier and `$` is every line's end.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z"
    r"|\s*[\r\n]|\s+(?!\S)|\s"
)


def bpe_of_ranks(ranks: dict[bytes, int]) -> dict[str, Any]:
    """The content of a tokenizer.json with cl100k's pattern, without special tokens."""
    printable = _printable_bytes()

    def spell(piece: bytes) -> str:
        return "".join(printable[byte] for byte in piece)

    ordered = sorted(ranks.items(), key=lambda item: item[1])
    pairs = (_last_merge(piece, rank, ranks) for piece, rank in ordered if len(piece) > 1)
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {spell(piece): rank for piece, rank in ordered},
            "merges": [[spell(left), spell(right)] for left, right in pairs],
        },
    }


def _last_merge(piece: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two pieces that are left of a piece when only the ranks below its own may merge."""
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 2:
        merged = [ranks.get(a + b, rank) for a, b in itertools.pairwise(parts)]
        best = min(range(len(merged)), key=merged.__getitem__)
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def _printable_bytes() -> list[str]:
    """The printable character that byte-level BPE writes for each byte (`bytes_to_unicode` of openai/gpt-2)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + rest.index(byte)) for byte in range(256)]
