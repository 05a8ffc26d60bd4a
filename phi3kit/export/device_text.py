"""Whether the device's tokenizer reads and writes what the model was trained with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from phi3kit.errors import UserError
from phi3kit.export.samples import AWKWARD, PROMPTS
from phi3kit.families import Tokenizer
from phi3kit.native_output import silenced
from phi3kit.records import Message
from phi3kit.text.device import device_tokenizer
from phi3kit.text.device_template import CONTENT, template
from phi3kit.text.template import WHITE_SPACE, render

STEPS = ("normalizer", "pre_tokenizer", "decoder")


def check_device_text(file: Path, tokenizer: Tokenizer, texts: Sequence[str], vocab_size: int) -> dict[str, Any]:
    """Compare ExecuTorch's C++ tokenizer on `file` with the model's own, each text as a user's turn.

    Texts with special tokens in them are left out: a device that is given whole prompts cannot tell them from the
    template's (`mobile/bundle.md`). Each word that was added to the vocabulary is a text more.

    Args:
        file: the device's tokenizer.json.
        tokenizer: the one the model was trained with.
        texts: what users might write.
        vocab_size: number of logits.

    Returns:
        ``texts``: how many were compared; ``faults``: what differs, one line each.
    """
    with silenced():
        from pytorch_tokenizers import CppHFTokenizer

        device = CppHFTokenizer()
        device.load(str(file))
        pieces = template(tokenizer)
        faults = []
        if not device.vocab_size() == tokenizer.vocab_size <= vocab_size:
            faults.append(
                f"the device counts {device.vocab_size()} entries, ids go up to {tokenizer.vocab_size - 1}, "
                f"there are {vocab_size} logits"
            )
        plain = [text.strip(WHITE_SPACE) for text in [*comparable(texts, tokenizer), *_with_words(tokenizer)]]
        for text in plain:
            prompt = pieces["begin"] + pieces["user"].replace(CONTENT, text) + pieces["answer"]
            wanted = render([Message("user", text)], tokenizer, generation=True).ids
            got = device.encode(prompt, 0, 0)
            if got != wanted:
                faults.append(f"{text[:40]!r} is {got[:12]} on the device, {wanted[:12]} in training")
            if any(word in text for word in tokenizer.words):
                continue  # a decoder that sees one token at a time writes Llama's space behind it
            ids = tokenizer.encode_after(text)
            streamed = "".join(_stream(device, ids))
            if streamed.removeprefix(" ") != text.removeprefix(" "):
                faults.append(f"{text[:40]!r} comes out as {streamed[:40]!r}")
    return {"texts": len(plain), "faults": faults}


def check_before(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise `UserError` where a device would read text otherwise than training did, before the slow work begins.

    Args:
        tokenizer: the model's.
        vocab_size: number of logits.
    """
    content = device_tokenizer(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        try:
            faults = check_device_text(file, tokenizer, [*PROMPTS, *AWKWARD], vocab_size)["faults"]
        except (RuntimeError, ValueError) as error:
            steps = ", ".join(f"{kind} {_types(content[kind])}" for kind in STEPS if content.get(kind))
            raise UserError(
                f"a device cannot read the model's tokenizer ({steps}): {error}; save it with steps that "
                "ExecuTorch's tokenizer has"
            ) from error
    if faults:
        more = f" ({len(faults)} texts differ)" if len(faults) > 1 else ""
        raise UserError(f"a device cannot use the model's tokenizer as it was trained with: {faults[0]}{more}")


def comparable(texts: Iterable[str], tokenizer: Tokenizer) -> list[str]:
    """Texts without special tokens, and without words that swallow the white space beside them, as on no device."""
    swallowing = (tokenizer.swallows_space_after | tokenizer.swallows_space_before) & tokenizer.words.keys()
    names = [*tokenizer.special_tokens, *swallowing]
    return [text for text in texts if not any(name in text for name in names)]


def _with_words(tokenizer: Tokenizer) -> Iterator[str]:
    """Texts with each word that was added to the vocabulary, spaces only where it does not swallow them."""
    after, before = tokenizer.swallows_space_after, tokenizer.swallows_space_before
    for word in tokenizer.words:
        left, right = "" if word in before else " ", "" if word in after else " "
        yield f"a{left}{word}{right}b"
        yield f"x{word}y{left}{word}, {word}"


def _types(step: dict[str, Any]) -> str:
    """The kinds of a step and of those within it."""
    within: list[dict[str, Any]] = next(
        (step[name] for name in ("normalizers", "pretokenizers", "decoders") if name in step), []
    )
    return " and ".join(inner["type"] for inner in within) or str(step["type"])


def _stream(device: Any, ids: list[int]) -> Iterator[str]:
    """The text of ids one by one; ids that are part of a character, together with the rest of it."""
    waiting: list[int] = []
    for id in ids:
        waiting.append(id)
        try:
            yield device.decode(id) if len(waiting) == 1 else device.decode_batch(waiting)
        except UnicodeDecodeError:
            continue
        waiting = []
