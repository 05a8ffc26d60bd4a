"""phi3kit: build your own Phi, from raw text to a chat model that runs on a phone.

Importing this package imports no torch: the public names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Batch": "phi3kit.records",
    "Conversation": "phi3kit.records",
    "Dims": "phi3kit.records",
    "Document": "phi3kit.records",
    "Message": "phi3kit.records",
    "Pictures": "phi3kit.records",
    "Preference": "phi3kit.records",
    "UserError": "phi3kit.errors",
    "hookimpl": "phi3kit.hookspecs",
    "Annotator": "phi3kit.families",
    "Attention": "phi3kit.families",
    "Cache": "phi3kit.families",
    "Cleaner": "phi3kit.families",
    "Extractor": "phi3kit.families",
    "FeedForward": "phi3kit.families",
    "Filter": "phi3kit.families",
    "Layout": "phi3kit.families",
    "Norm": "phi3kit.families",
    "Position": "phi3kit.families",
    "Prompt": "phi3kit.families",
    "Quantizer": "phi3kit.families",
    "Reader": "phi3kit.families",
    "Refusal": "phi3kit.families",
    "Router": "phi3kit.families",
    "Scorer": "phi3kit.families",
    "Seed": "phi3kit.families",
    "Splitter": "phi3kit.families",
    "Synthesizer": "phi3kit.families",
    "Tokenizer": "phi3kit.families",
    "VisionEncoder": "phi3kit.families",
    "Decoder": "phi3kit.model",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'phi3kit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
