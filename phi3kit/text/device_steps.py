"""Steps of a `tokenizer.json` that ExecuTorch's C++ tokenizer does not have, in those that it has.

pytorch_tokenizers 1.5 knows no Metaspace, which is a replacement of spaces; its NFC takes accents away. All text on a
device follows a special token of the template, so a mark that only the beginning of a text gets is never given.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def device_steps(content: Json) -> Json:
    """The normalizer and the pre-tokenizer of a file as a device reads them."""
    normalizer, before = content.get("normalizer"), content.get("pre_tokenizer")
    given = normalizer is not None and normalizer["type"] == "Sequence"
    steps: list[Json] = normalizer["normalizers"] if given and normalizer else [normalizer] if normalizer else []
    kept = [step for step in steps if step["type"] != "NFC"]  # most text is in NFC as it is
    if before is not None and before["type"] == "Metaspace":
        kept, before = [*kept, *_marks(before)], _words(before)
    elif kept == steps:
        return {"normalizer": normalizer, "pre_tokenizer": before}
    return {"normalizer": {"type": "Sequence", "normalizers": kept} if kept else None, "pre_tokenizer": before}


def _marks(metaspace: Json) -> list[Json]:
    """A Metaspace's marks as normalizers."""
    mark = metaspace.get("replacement", "\u2581")
    always = metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space", True) else "never")
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": mark}
    return [{"type": "Prepend", "prepend": mark}, spaces] if always == "always" else [spaces]


def _words(metaspace: Json) -> Json | None:
    """The pieces that a Metaspace cuts at its marks, as a pre-tokenizer; None where it does not cut."""
    if not metaspace.get("split", True):
        return None
    mark = metaspace.get("replacement", "\u2581")
    pattern = {"Regex": f"{mark}[^{mark}]*|[^{mark}]+"}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
