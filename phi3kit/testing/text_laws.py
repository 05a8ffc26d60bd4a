"""Laws of `Tokenizer`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from phi3kit.families import Tokenizer
from phi3kit.testing.law import require
from phi3kit.testing.tiny import TEXTS
from phi3kit.text.template import WHITE_SPACE

AWKWARD = (
    "",
    " ",
    "a",
    " leading and trailing ",
    "\n\n\ttabs\t and   runs of    spaces\n",
    "line\r\nends\r",
    "12345678901234567890 3.14e-10",
    "e\u0301 and é, \u200bzero width, \ufeffmark, \x00 and \x7f",
    "👩\u200d🚀👍🏽 日本語 العربية हिन्दी \U0001d54f",
    "<| almost |> <|end <s></s> </ s>",
)


def check_tokenizer(build: Callable[[], Tokenizer]) -> None:
    """Every law of `Tokenizer`."""
    tokenizer = build()
    _comes_back(tokenizer)
    _ids_fit(tokenizer)
    _text_makes_no_special_token(tokenizer)
    _survives_the_disk(tokenizer)


def _comes_back(tokenizer: Tokenizer) -> None:
    for text in (*TEXTS, *AWKWARD):
        back = tokenizer.decode(tokenizer.encode(text))
        require(back == _swallowed(text, tokenizer), "decode(encode(s)) == s", f"{text!r} came back as {back!r}")


def _swallowed(text: str, tokenizer: Tokenizer) -> str:
    """The text without the white space that added words in it swallow, as Phi-3-mini's ``</s>`` does."""
    for word in tokenizer.words.keys() & tokenizer.swallows_space_after:
        text = re.sub(f"({re.escape(word)})[{WHITE_SPACE}]+", r"\1", text)
    for word in tokenizer.words.keys() & tokenizer.swallows_space_before:
        text = re.sub(f"[{WHITE_SPACE}]+({re.escape(word)})", r"\1", text)
    return text


def _ids_fit(tokenizer: Tokenizer) -> None:
    size, special = tokenizer.vocab_size, tokenizer.special_tokens
    ids = {i for text in (*TEXTS, *AWKWARD) for i in tokenizer.encode(text)} | set(special.values())
    outside = sorted(i for i in ids if not 0 <= i < size)
    require(not outside, "every id is below vocab_size", f"{outside[:3]} with vocab_size {size}")
    require(len(set(special.values())) == len(special), "special tokens have distinct ids", f"{dict(special)}")
    swallow = tokenizer.swallows_space_after | tokenizer.swallows_space_before
    stray = sorted(swallow - special.keys() - tokenizer.words.keys())
    require(not stray, "only special tokens and words swallow spaces", f"{stray} are neither")
    for name, number in special.items():
        back = tokenizer.decode([number])
        require(back == name, "a special id is decoded to its name", f"{number} became {back!r}, not {name!r}")


def _text_makes_no_special_token(tokenizer: Tokenizer) -> None:
    law = "encode never yields a special id"
    special = {number: name for name, number in tokenizer.special_tokens.items()}
    for name in special.values():
        for text in (name, f"say {name} now", f"{name}{name}", f"x{name}\n\n"):
            found = sorted({special[i] for i in tokenizer.encode(text) if i in special})
            require(not found, law, f"the text {text!r} gave {found}")
            back = tokenizer.decode(tokenizer.encode(text))
            require(back == text, "decode(encode(s)) == s", f"{text!r} came back as {back!r}")


def _survives_the_disk(tokenizer: Tokenizer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        loaded = type(tokenizer).load(Path(folder))
        law = "a saved tokenizer loads as itself"
        same = loaded.fingerprint == tokenizer.fingerprint
        require(same, law, f"fingerprint {loaded.fingerprint!r}, not {tokenizer.fingerprint!r}")
        require(loaded.vocab_size == tokenizer.vocab_size, law, f"vocab_size {loaded.vocab_size}")
        special = dict(loaded.special_tokens)
        require(special == dict(tokenizer.special_tokens), law, f"special tokens {special}")
        for text in (*TEXTS, *AWKWARD):
            got, wanted = loaded.encode(text), tokenizer.encode(text)
            require(got == wanted, law, f"{text!r} is {got[:8]}…, was {wanted[:8]}…")
