"""What a cleaner changed travels with the document, so that reports can add it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from phi3kit.records import Document


def cleaned(document: Document, text: str, changes: Mapping[str, int]) -> Document:
    """The document with another text, and the counts of `changes` added to ``metadata["cleaned"]``.

    The document itself where the text is the same.
    """
    if text == document.text:
        return document
    counts = dict(document.metadata.get("cleaned", {}))
    for what, n in changes.items():
        counts[what] = counts.get(what, 0) + n
    return replace(document, text=text, metadata={**document.metadata, "cleaned": counts})
