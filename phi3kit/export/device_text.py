"""Whether the device's tokenizer reads and writes what the model was trained with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from phi3kit.families import Tokenizer
from phi3kit.native_output import silenced
from phi3kit.records import Message
from phi3kit.text.device_template import CONTENT, template
from phi3kit.text.template import WHITE_SPACE, render


def check_device_text(file: Path, tokenizer: Tokenizer, texts: Sequence[str], vocab_size: int) -> dict[str, Any]:
    """Compare ExecuTorch's C++ tokenizer on `file` with the model's own, each text as a user's turn.

    Texts with special tokens in them are left out: a device that is given whole prompts cannot tell them from the
    template's (`mobile/bundle.md`).

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
        plain = [t.strip(WHITE_SPACE) for t in texts if not any(name in t for name in tokenizer.special_tokens)]
        for text in plain:
            prompt = pieces["begin"] + pieces["user"].replace(CONTENT, text) + pieces["answer"]
            wanted = render([Message("user", text)], tokenizer, generation=True).ids
            got = device.encode(prompt, 0, 0)
            if got != wanted:
                faults.append(f"{text[:40]!r} is {got[:12]} on the device, {wanted[:12]} in training")
            ids = tokenizer.encode(text)
            streamed = "".join(_stream(device, ids))
            if streamed.removeprefix(" ") != text.removeprefix(" "):
                faults.append(f"{text[:40]!r} comes out as {streamed[:40]!r}")
    return {"texts": len(plain), "faults": faults}


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
