"""Train a byte-level BPE with Phi-3's special tokens: the vocabulary of a small model with its own corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable

import tokenizers

from phi3kit.errors import UserError
from phi3kit.text.hugging_face import HuggingFaceTokenizer

# Phi-3-mini's own, with its flags: after all but <|endoftext|>, white space is swallowed (June 2024 release).
SPECIAL_TOKENS = {
    "<|endoftext|>": False,
    "<|system|>": True,
    "<|user|>": True,
    "<|assistant|>": True,
    "<|end|>": True,
}
SMALLEST = 256 + len(SPECIAL_TOKENS)


def train_bpe(texts: Iterable[str], *, vocab_size: int) -> HuggingFaceTokenizer:
    """A BPE trained on texts; the same texts in the same order give the same tokenizer.

    The special tokens take the last ids and the ids have no holes: ExecuTorch's sampler looks only at as many
    logits as the tokenizer has entries. A small corpus may give fewer than `vocab_size` entries.

    Args:
        texts: the corpus.
        vocab_size: number of ids, special tokens included; at least 261.
    """
    if vocab_size < SMALLEST:
        raise UserError(f"vocab_size {vocab_size} is too small; the bytes and special tokens take {SMALLEST}")
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(byte_level.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(
        [
            tokenizers.AddedToken(name, special=True, normalized=False, rstrip=rstrip)
            for name, rstrip in SPECIAL_TOKENS.items()
        ]
    )
    return HuggingFaceTokenizer.from_content(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False))
