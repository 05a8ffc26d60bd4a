"""The laws of each family, as functions that raise `LawBroken`: which law, and the numbers.

A plugin's tests say ``contracts.check(MyFilter)``, or ``contracts.check(MyFilter, partial(MyFilter, limit=3))``
where the constructor wants something; the functions below it take more (a batch, documents, a bad file).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from phi3kit.families import family_of
from phi3kit.testing import tiny
from phi3kit.testing.batch_laws import check_batches
from phi3kit.testing.corpus_laws import (
    check_cleaner,
    check_extractor,
    check_filter,
    check_reader,
    check_splitter,
    check_synthesizer,
)
from phi3kit.testing.executor_laws import check_executor
from phi3kit.testing.expert_laws import check_router
from phi3kit.testing.export_laws import check_backend, check_quantizer
from phi3kit.testing.law import LawBroken
from phi3kit.testing.layout_laws import check_layout
from phi3kit.testing.net_laws import check_attention, check_feed_forward, check_norm, check_position
from phi3kit.testing.phase_laws import check_phase
from phi3kit.testing.prompt_laws import check_prompt
from phi3kit.testing.scorer_laws import check_annotator, check_scorer
from phi3kit.testing.text_laws import check_tokenizer
from phi3kit.testing.vision_laws import check_vision_encoder

__all__ = [
    "LawBroken",
    "check",
    "check_annotator",
    "check_attention",
    "check_backend",
    "check_batches",
    "check_cleaner",
    "check_executor",
    "check_extractor",
    "check_feed_forward",
    "check_filter",
    "check_layout",
    "check_norm",
    "check_phase",
    "check_position",
    "check_prompt",
    "check_quantizer",
    "check_reader",
    "check_router",
    "check_scorer",
    "check_splitter",
    "check_synthesizer",
    "check_tokenizer",
    "check_vision_encoder",
]


def check(component: type, build: Callable[..., Any] | None = None) -> None:
    """Check a component against every law of its family.

    Args:
        component: a concrete class of a family.
        build: makes one as a recipe would, e.g. ``partial(component, option=3)``; None: the class itself.

    Raises:
        LawBroken: a law does not hold; the message names the component, the law and the numbers.
        KeyError: the family has no laws here.
    """
    family = family_of(component)
    assert family is not None, f"{component.__name__} belongs to no family"
    try:
        LAWS[family.__name__](build or component)
    except LawBroken as broken:
        raise LawBroken(f"{component.__name__}: {broken}") from broken


def _check_phase(build: Callable[..., Any]) -> None:
    from torch.optim import AdamW

    check_phase(functools.partial(build, optimizer=functools.partial(AdamW, lr=1e-3, weight_decay=0.0)))


def _check_extractor(build: Callable[..., Any]) -> None:
    check_extractor(build, b"<html><body><p>The lamp on the harbour wall turns.</p></body></html>", "page.html")


def _check_batches(build: Callable[..., Any]) -> None:
    check_batches(build, tiny.tokenizer())


LAWS: dict[str, Callable[..., None]] = {
    "Annotator": check_annotator,
    "Attention": check_attention,
    "Backend": check_backend,
    "Batches": _check_batches,
    "Cleaner": check_cleaner,
    "Executor": check_executor,
    "Extractor": _check_extractor,
    "FeedForward": check_feed_forward,
    "Filter": check_filter,
    "Layout": check_layout,
    "Norm": check_norm,
    "Phase": _check_phase,
    "Position": check_position,
    "Prompt": check_prompt,
    "Quantizer": check_quantizer,
    "Reader": check_reader,
    "Router": check_router,
    "Scorer": check_scorer,
    "Splitter": check_splitter,
    "Synthesizer": check_synthesizer,
    "Tokenizer": check_tokenizer,
    "VisionEncoder": check_vision_encoder,
}
