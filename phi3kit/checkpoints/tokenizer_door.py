"""A public folder's own tokenizer, by transformers, compared once with ours, before any work.

Without any code of the folder: `PreTrainedTokenizerFast`, which transformers 5 takes for the models of this family,
reads the same files (tokenizer.json and its neighbours) in its own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from phi3kit import torchvision_ops
from phi3kit.families import Tokenizer

JSON = "tokenizer.json"
TEXTS = (
    "Where is the harbour? Behind the wall, 12 km away.",
    " one space in front, two  and   three within, and at the end  ",
    "tabs\tand\t\tlines\n\n\n of\r\n text \n",
    "def f(x, y):\n    if x:\n        return {'a': [x ** 2, -y]}  # naïve\n",
    "x" * 50 + " " * 70 + "y" + "\n" * 20 + "=" * 90,
    "Élodie paid 3.14159 € for 1234567890 crêpes; e\u0301 is é, she said. I'LL don't",
    "東京は寒い。 Привет, мир! مرحبا بالعالم नमस्ते 🙂👩\u200d👩\u200d👧 \u00a0\u200b\ufeff",
    "<div class='a'>$a<b$ and $c>d$</div> [INST] <|almost|> {{x}} \\frac{1}{2}",
)


def compare_tokenizers(folder: Path, tokenizer: Tokenizer) -> list[str]:
    """How a folder's own ids compare with ours, in a line; none where it has no tokenizer.json.

    Args:
        folder: the public folder.
        tokenizer: what we read of it.
    """
    if not (folder / JSON).is_file():
        return []
    try:
        torchvision_ops.declare()
        from transformers import PreTrainedTokenizerFast

        theirs = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # transformers raises whatever goes wrong in it
        return [
            f"tokenizer: transformers cannot read it ({str(error).splitlines()[0][:120] if str(error) else error!r})"
        ]
    texts = list(_texts(tokenizer))
    pairs = [(text, tokenizer.encode(text), theirs.encode(text, add_special_tokens=False)) for text in texts]
    differing = [(text, ours, other) for text, ours, other in pairs if ours != other]
    if not differing:
        return [f"tokenizer: the same ids as in transformers for {len(texts)} texts"]
    text, ours, other = differing[0]
    at = next((i for i, (a, b) in enumerate(zip(ours, other, strict=False)) if a != b), min(len(ours), len(other)))
    return [
        f"tokenizer: {len(differing)} of {len(texts)} texts have other ids than in transformers: {text[:40]!r} has "
        f"{ours[at : at + 4]} where transformers has {other[at : at + 4]}"
    ]


def _texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Texts of every kind, and each added word among others; no special tokens, which are no text here."""
    for text in TEXTS:
        if not any(name in text for name in tokenizer.special_tokens):
            yield text
    for word in tokenizer.words:
        if not any(name in word for name in tokenizer.special_tokens):
            yield f"a {word} b{word}, {word}  {word}\n"
