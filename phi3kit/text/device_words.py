"""Words that are matched in normalized text, for a device that matches added tokens before it normalizes.

With a `Prepend` normalizer Llama's ``word`` is found as ``▁word``, behind a space or at a beginning. A device would
find it anywhere, and mark what follows as a beginning. So there the word is no added token but a letter of the
vocabulary: a normalizer writes it for ``▁word``, and the decoder writes that for it.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

FIRST_LETTER = 0xF0000  # of a plane for private use


def device_words(content: Json, words: list[Json]) -> Json:
    """A file whose words a device finds where training found them.

    Args:
        content: the file, its steps being a device's already.
        words: its added tokens that are not special.
    """
    steps = (content.get("normalizer") or {}).get("normalizers", [])
    if not any(step["type"] == "Prepend" for step in steps):
        return content
    vocab = content["model"]["vocab"]
    numbers = set(vocab.values())
    free = [w for w in words if w.get("normalized") and w["id"] not in numbers and not _minds_its_neighbours(w)]
    free.sort(key=lambda word: -len(word["content"]))  # of two that begin alike the longer is found
    letters = {chr(FIRST_LETTER + place): word for place, word in enumerate(free)}
    if not letters:
        return content
    written = {letter: _normalized(word["content"], steps) for letter, word in letters.items()}
    there = [{"type": "Replace", "pattern": {"String": text}, "content": letter} for letter, text in written.items()]
    back = [{"type": "Replace", "pattern": {"String": letter}, "content": text} for letter, text in written.items()]
    decoder = content["decoder"]
    return {
        **content,
        "added_tokens": [token for token in content["added_tokens"] if token not in free],
        "normalizer": {"type": "Sequence", "normalizers": [*steps, *there]},
        "decoder": {"type": "Sequence", "decoders": [*back, *decoder.get("decoders", [decoder])]},
        "model": {**content["model"], "vocab": vocab | {letter: word["id"] for letter, word in letters.items()}},
    }


def _minds_its_neighbours(word: Json) -> bool:
    return any(word.get(flag) for flag in ("single_word", "lstrip", "rstrip"))


def _normalized(text: str, steps: list[Json]) -> str:
    """What `Prepend` and `Replace` make of a text."""
    for step in steps:
        if step["type"] == "Prepend":
            text = step["prepend"] + text
        elif step["type"] == "Replace" and "String" in step["pattern"]:
            text = text.replace(step["pattern"]["String"], step["content"])
    return text
