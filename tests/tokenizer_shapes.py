"""Tokenizers of all the shapes that a `tokenizer.json` may have, each with Phi-3's tokens and words of its own."""

from __future__ import annotations

import json
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers

ROLES = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
LETTERS = sorted(set("abcdefghijklmnopqrstuvwxyzHT.,?!:(){}=<>|_/-0123456789\u00e9"))
MERGES = [
    "t h",
    "th e",
    "h e",
    "l l",
    "he ll",
    "hell o",
    "o n",
    "i n",
    "a n",
    "an d",
    "\u2581 the",
    "\u2581 and",
    "\u2581 \u2581",
]
TEXTS = (
    "Hello",
    " Hello and the lamp",
    "the zwitterion is in the harbour",
    "zwitterions, a zwitterion, zwitterion",
    "<think>two and two</think> four",
    "a  <think>  b \n <think>\nthe",
    "def f(x):\n    return x ** 2  # and the\n\n\n",
    "\n\n  two lines \t and tabs\t\t",
    "Élodie naïvely paid 12 €; 東京 🙂👩‍👩‍👧 عربى",
    "I say <|end|> and <|user|>\nHello <|endoftext|><|assistant|>",
    "x" * 40 + " " * 33 + "y" + "\u2581the",
    "the<think>the zwitterion<think>",
)


def llama(before: str = "first", split: bool = False) -> tokenizers.Tokenizer:
    """Byte fallback: with a `Prepend` normalizer, or a `Metaspace` of some scheme."""
    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)], "\u2581", *LETTERS]
    merges = [tuple(merge.split()) for merge in MERGES]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *(a + b for a, b in merges)]))}
    model = tokenizers.models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = tokenizers.Tokenizer(model)
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if before == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme=before, split=split)
    made.decoder = decoders.Sequence(steps if before == "never" else [*steps, decoders.Strip(" ", 1, 0)])
    return made


def byte_level(pre: Any = None, normalizer: Any = None, ignore_merges: bool = False) -> tokenizers.Tokenizer:
    """Bytes as letters, with the pre-tokenizer and normalizer given."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(merge.replace("\u2581", "\u0120").split()) for merge in MERGES]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*alphabet, *(a + b for a, b in merges)]))}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges, ignore_merges=ignore_merges))
    made.pre_tokenizer = pre or pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer is not None:
        made.normalizer = normalizer
    made.decoder = decoders.ByteLevel()
    return made


def shapes() -> dict[str, tokenizers.Tokenizer]:
    """By name, Phi-3's tokens included."""
    level = pre_tokenizers.ByteLevel
    pattern = tokenizers.Regex(r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+")
    made = {
        "prepend": llama("prepend"),
        "first": llama("first"),
        "first, split": llama("first", split=True),
        "always": llama("always"),
        "never": llama("never"),
        "bytes": byte_level(),
        "bytes, NFC": byte_level(normalizer=normalizers.NFC()),
        "bytes, whole words": byte_level(ignore_merges=True),
        "bytes, split": byte_level(
            pre_tokenizers.Sequence(
                [pre_tokenizers.Split(pattern, "isolated"), level(add_prefix_space=False, use_regex=False)]
            )
        ),
        "bytes, digits": byte_level(
            pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level(add_prefix_space=False)])
        ),
    }
    for tokenizer in made.values():
        swallowing = [AddedToken(n, special=True, normalized=False, rstrip=n != ROLES[0]) for n in ROLES]
        tokenizer.add_special_tokens(swallowing)
    return made


def with_words(made: tokenizers.Tokenizer, *words: str | AddedToken) -> str:
    """The text of a tokenizer.json, words added to it."""
    made.add_tokens(list(words))
    return made.to_str()


def merges_as_strings(content: str) -> str:
    """The file as tokenizers before 0.20 wrote it."""
    parsed = json.loads(content)
    parsed["model"]["merges"] = [" ".join(merge) for merge in parsed["model"]["merges"]]
    return json.dumps(parsed)
